"""The grammar of market symbols.

    {EXCHANGE}-{SPOT|PERP}-{BASE}-{QUOTE}[-{DISAMBIGUATOR}]
    {EXCHANGE}-FUT-{BASE}-{QUOTE}-{YYMMDD}[-{DISAMBIGUATOR}]
    {EXCHANGE}-OPT-{BASE}-{QUOTE}-{YYMMDD}-{STRIKE}-{C|P}[-{DISAMBIGUATOR}]

A symbol uses the venue's own asset names. `COINM` is the disambiguator of coin-margined contracts. Parts keep their
case and may hold anything but dashes, white space and control characters. `Symbol.parse` and `str` are inverses.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from enum import StrEnum

import msgspec

from astra.directory import canonical_exchange
from astra.errors import SymbolError, nearest


class AssetType(StrEnum):
    """The kind of a market."""

    SPOT = "SPOT"
    PERP = "PERP"
    FUT = "FUT"
    OPT = "OPT"


class OptionType(StrEnum):
    """The right an option gives: to buy (call) or to sell (put)."""

    CALL = "C"
    PUT = "P"


COIN_MARGINED = "COINM"

_EXCHANGE = re.compile(r"[A-Z][A-Z0-9]*\Z")
_PART = re.compile(r"[^\s\-\x00-\x1f\x7f-\x9f]+\Z")
_STRIKE = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?\Z")
_FORMS = {
    AssetType.SPOT: "EXCHANGE-SPOT-BASE-QUOTE[-DISAMBIGUATOR]",
    AssetType.PERP: "EXCHANGE-PERP-BASE-QUOTE[-DISAMBIGUATOR]",
    AssetType.FUT: "EXCHANGE-FUT-BASE-QUOTE-YYMMDD[-DISAMBIGUATOR]",
    AssetType.OPT: "EXCHANGE-OPT-BASE-QUOTE-YYMMDD-STRIKE-C|P[-DISAMBIGUATOR]",
}
_FIXED_PARTS = {AssetType.SPOT: 4, AssetType.PERP: 4, AssetType.FUT: 5, AssetType.OPT: 7}


def strike_text(strike: Decimal | str) -> str:
    """A strike price as symbols write it: plain decimal, no exponent, no trailing zeros ("800.00" -> "800")."""
    text = format(Decimal(strike), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def expiry_date(time_ms: int) -> str:
    """The day of an expiry (ms since the epoch) as symbols write it: YYMMDD, in UTC."""
    return f"{datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC):%y%m%d}"


def expiry_ms(date: str, hour: int) -> int:
    """The moment, in ms since the epoch, of so many o'clock UTC on a day as symbols write it (YYMMDD)."""
    day = datetime.datetime.strptime(date, "%y%m%d").replace(hour=hour, tzinfo=datetime.UTC)
    return int(day.timestamp() * 1000)


class Symbol(msgspec.Struct, frozen=True, order=True):
    """A market symbol, taken apart.

    `expiry` is the date as YYMMDD (UTC), `strike` plain decimal text; both are None where the kind has none.
    """

    exchange: str
    asset_type: AssetType
    base: str
    quote: str
    expiry: str | None = None
    strike: str | None = None
    option_type: OptionType | None = None
    disambiguator: str | None = None

    def __post_init__(self) -> None:
        _check_exchange(self.exchange, self.exchange)
        for part, text in (("base asset", self.base), ("quote asset", self.quote)):
            _check_part(part, text)
        if self.disambiguator is not None:
            _check_part("disambiguator", self.disambiguator)
        dated = self.asset_type in (AssetType.FUT, AssetType.OPT)
        if dated != (self.expiry is not None):
            raise SymbolError(f"a {self.asset_type} symbol has {'an' if dated else 'no'} expiry (YYMMDD)")
        if self.expiry is not None:
            _check_expiry(self.expiry)
        optional = self.asset_type is AssetType.OPT
        if optional != (self.strike is not None) or optional != (self.option_type is not None):
            raise SymbolError(f"a {self.asset_type} symbol has {'a' if optional else 'no'} strike and C or P")
        if self.strike is not None:
            _check_strike(self.strike)

    def __str__(self) -> str:
        parts = [self.exchange, self.asset_type.value, self.base, self.quote]
        parts.extend(part for part in (self.expiry, self.strike) if part is not None)
        if self.option_type is not None:
            parts.append(self.option_type.value)
        if self.disambiguator is not None:
            parts.append(self.disambiguator)
        return "-".join(parts)

    @classmethod
    def parse(cls, text: str) -> Symbol:
        """Take a symbol apart.

        Raises `SymbolError` naming the part that is wrong, with the likely meant symbol where one can be guessed.
        The exchange may be an alias (`HTX`): the symbol then carries the exchange's code.
        """
        parts = text.split("-")
        if len(parts) < 2:
            raise SymbolError(f"{text!r} is not a market symbol such as BINANCE-SPOT-BTC-USDT.{_dashed(text)}")
        exchange = canonical_exchange(parts[0])
        _check_exchange(exchange, text)
        try:
            asset_type = AssetType(parts[1])
        except ValueError:
            guess = nearest(parts[1], [kind.value for kind in AssetType])
            meant = f" Did you mean {guess}?" if guess else _dashed(text)
            raise SymbolError(
                f"asset type {parts[1]!r} in {text!r} is not one of SPOT, PERP, FUT, OPT.{meant}"
            ) from None
        fixed = _FIXED_PARTS[asset_type]
        if len(parts) not in (fixed, fixed + 1):
            raise SymbolError(
                f"{text!r} has {len(parts)} parts; a {asset_type} symbol is {_FORMS[asset_type]}.{_dashed(text)}"
            )
        option_type: OptionType | None = None
        if asset_type is AssetType.OPT:
            if parts[6] not in ("C", "P"):
                raise SymbolError(f"option type {parts[6]!r} in {text!r} is neither C (call) nor P (put)")
            option_type = OptionType(parts[6])
        try:
            return cls(
                exchange=exchange,
                asset_type=asset_type,
                base=parts[2],
                quote=parts[3],
                expiry=parts[4] if fixed > 4 else None,
                strike=parts[5] if option_type is not None else None,
                option_type=option_type,
                disambiguator=parts[fixed] if len(parts) > fixed else None,
            )
        except SymbolError as error:
            raise SymbolError(f"{error.message} in {text!r}") from None


def _dashed(text: str) -> str:
    """Suggest the symbol with dashes when it was written with underscores."""
    candidate = text.replace("_", "-")
    if candidate == text:
        return ""
    try:
        return f" Did you mean {Symbol.parse(candidate)}?"
    except SymbolError:
        return ""


def _check_exchange(code: str, text: str) -> None:
    if not _EXCHANGE.match(code):
        upper = code.upper()
        meant = f" Did you mean {canonical_exchange(upper)}?" if _EXCHANGE.match(upper) else ""
        raise SymbolError(f"exchange {code!r} in {text!r} must be capital letters and digits.{meant}")


def _check_part(part: str, text: str) -> None:
    if not _PART.match(text):
        raise SymbolError(f"{part} {text!r} must be non-empty, without dashes, white space or control characters")


def _check_expiry(text: str) -> None:
    try:
        if not re.fullmatch(r"[0-9]{6}", text, re.ASCII):
            raise ValueError
        datetime.date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError:
        raise SymbolError(f"expiry {text!r} is not a date written YYMMDD") from None


def _check_strike(text: str) -> None:
    if not _STRIKE.match(text):
        raise SymbolError(f"strike {text!r} must be a plain decimal without leading or trailing zeros")
