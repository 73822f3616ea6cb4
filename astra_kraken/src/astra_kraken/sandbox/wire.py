"""What goes over the wire of both APIs: refusals, parameters, numbers and times."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from astra.errors import hint
from astra.sandbox.toolkit import plain, split_form

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?\Z")


class SpotRefusal(Exception):
    """Spot refuses: `error` is what stands in the `error` list of REST, and in `error` of the stream."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class DerivativesRefusal(Exception):
    """The derivatives API refuses a request as a whole: `{"result": "error", "error": ...}`."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


def decode_json(payload: str | bytes) -> Any:
    """JSON with its fractions as `Decimal`. Raises `msgspec.DecodeError`."""
    return _DECODER.decode(payload)


def raw(text: str) -> msgspec.Raw:
    """A JSON number exactly as written."""
    return msgspec.Raw(text.encode())


def number(value: Decimal | None) -> msgspec.Raw:
    """A JSON number without superfluous zeros."""
    return raw(plain(value))


def scientific(value: Decimal) -> str:
    """Small numbers as floating-point printers write them (`5.1e-05`), others plainly."""
    if not value or abs(value) >= Decimal("0.0001"):
        return plain(value)
    digits = format(value.normalize(), "e")
    mantissa, _, exponent = digits.partition("e")
    return f"{mantissa}e-{int(exponent[1:]):02d}"


def at_least(value: Decimal | None, decimals: int) -> str:
    """A number with so many decimals, or with all it has where those are more."""
    text = plain(value)
    missing = decimals - len(text.partition(".")[2])
    if missing <= 0:
        return text
    return (text if "." in text else text + ".") + "0" * missing


def rounded(value: Decimal | None, decimals: int) -> Decimal:
    """For figures that the venue itself rounds (average prices)."""
    return (value or Decimal(0)).quantize(Decimal(1).scaleb(-decimals))


# --- times ---


def _utc(now_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC)


def micros(now_ms: int) -> str:
    """RFC 3339 with microseconds, as Spot writes it."""
    return f"{_utc(now_ms):%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}000Z"


def millis(now_ms: int) -> str:
    """RFC 3339 with milliseconds, as the derivatives API writes it."""
    return f"{_utc(now_ms):%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}Z"


def whole_seconds(now_ms: int) -> str:
    return f"{_utc(now_ms):%Y-%m-%dT%H:%M:%SZ}"


def rfc1123(now_ms: int) -> str:
    return f"{_utc(now_ms):%a, %d %b %y %H:%M:%S +0000}"


def unix_seconds(now_ms: int) -> float:
    """Seconds with a fraction, as the order records of Spot have them."""
    return now_ms / 1000


def parse_time(text: Any) -> int | None:
    """Milliseconds of an RFC 3339 time; None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if parsed.tzinfo is None else int(parsed.timestamp() * 1000)


def parse_number(value: Any) -> Decimal | None:
    """A plain number, of JSON or as text; None for what is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and _NUMBER.match(value):
        try:
            return Decimal(value)
        except InvalidOperation:
            return None
    return None


# --- parameters ---


class Params:
    """The parameters of a request, form or JSON, by name. Form values are texts; a name that comes again makes a
    list."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    @classmethod
    def of_form(cls, *texts: str) -> Params:
        values: dict[str, Any] = {}
        for text in texts:
            for name, value in split_form(text):
                known = values.get(name)
                if known is None:
                    values[name] = value
                elif isinstance(known, list):
                    known.append(value)
                else:
                    values[name] = [known, value]
        return cls(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> Any:
        """As it came: text, or whatever JSON had."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """As text; None when it is not given or empty."""
        value = self._values.get(name)
        if value is None or isinstance(value, list | dict):
            return None
        return str(value) or None

    def number(self, name: str) -> Decimal | None:
        """As a number; None when it is not given or no number (`name in params` tells which)."""
        return parse_number(self._values.get(name))

    def flag(self, name: str) -> bool:
        """`true`, `1` and JSON's true."""
        value = self._values.get(name)
        return value is True or (isinstance(value, str) and value.lower() in ("true", "1"))

    def texts(self, name: str) -> list[str]:
        """A comma-separated text, or a list, as texts."""
        value = self._values.get(name)
        if value is None:
            return []
        return [str(part) for part in value] if isinstance(value, list) else [p for p in str(value).split(",") if p]

    def unknown(self, known: frozenset[str]) -> str | None:
        """A parameter that the endpoint does not know, with a hint; None when all are known. The venue itself
        ignores such parameters: here a misspelt one shows."""
        for name in self._values:
            if name not in known:
                return f"{name}{hint(name, known)}"
        return None
