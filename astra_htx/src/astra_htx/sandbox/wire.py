"""How HTX writes: families, envelopes, numbers, parameters, refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from enum import Enum, StrEnum
from typing import Any

import msgspec

from astra.errors import hint
from astra.sandbox.toolkit import plain, split_form


class Family(StrEnum):
    """The API families, named as the products they serve."""

    SPOT = "spot"
    LINEAR = "linear"
    COIN_SWAP = "coin_swap"
    COIN_FUTURES = "coin_futures"

    @property
    def is_coin(self) -> bool:
        return self in (Family.COIN_SWAP, Family.COIN_FUTURES)


class Envelope(Enum):
    """What is put round an answer."""

    SPOT = "status, data"
    SPOT_MARKET = "status, tick, ts"
    SPOT_V2 = "code, data"
    DERIVATIVES = "status, data, ts"
    V5 = "code, message, data, ts"
    V3 = "code, msg, data, ts"


class Refusal(Exception):
    """A request is refused with the venue's code and text. Business errors come with HTTP 200."""

    def __init__(self, code: int | str, message: str, *, status: int = 200) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def body(self, envelope: Envelope, now_ms: int) -> dict[str, Any]:
        match envelope:
            case Envelope.SPOT:
                return {"status": "error", "err-code": self.code, "err-msg": self.message, "data": None}
            case Envelope.SPOT_MARKET:
                return {"ts": now_ms, "status": "error", "err-code": self.code, "err-msg": self.message}
            case Envelope.SPOT_V2:
                return {"code": self.code, "message": self.message, "success": False}
            case Envelope.DERIVATIVES:
                return {"status": "error", "err_code": self.code, "err_msg": self.message, "ts": now_ms}
            case Envelope.V5:
                return {"code": self.code, "message": self.message, "data": None, "ts": now_ms}
        return {"code": self.code, "msg": self.message, "data": None, "ts": now_ms}


class Whole(msgspec.Struct, frozen=True):
    """An answer that brings its own envelope."""

    body: Mapping[str, Any]


def enveloped(envelope: Envelope, result: Any, now_ms: int) -> Any:
    """The body of a successful answer."""
    if isinstance(result, Whole):
        return result.body
    match envelope:
        case Envelope.SPOT:
            return {"status": "ok", "data": result}
        case Envelope.SPOT_V2:
            return {"code": 200, "data": result, "success": True}
        case Envelope.V5:
            return {"code": 200, "message": "Success", "data": result, "ts": now_ms}
        case Envelope.V3:
            return {"code": 200, "msg": "", "data": result, "ts": now_ms}
    return {"status": "ok", "data": result, "ts": now_ms}


def missing(envelope: Envelope, name: str) -> Refusal:
    if envelope is Envelope.SPOT:
        return Refusal("validation-constraints-required", f"Field is missing: {name}.")
    if envelope is Envelope.SPOT_MARKET:
        return Refusal("invalid-parameter", f"invalid {name}")
    if envelope is Envelope.SPOT_V2:
        return Refusal(2003, f"missing mandatory field {name}")
    return Refusal(1066, f"The {name} field cannot be empty. Please re-enter.")


def wrong(envelope: Envelope, name: str, why: str = "") -> Refusal:
    more = f" ({why})" if why else ""
    if envelope in (Envelope.SPOT, Envelope.SPOT_MARKET):
        return Refusal("invalid-parameter", f"invalid {name}{more}")
    if envelope is Envelope.SPOT_V2:
        return Refusal(2002, f"invalid field value in {name}{more}")
    return Refusal(1067, f"The {name} field is invalid. Please re-enter.{more}")


class Params:
    """The business parameters of a request, by name."""

    def __init__(self, values: Mapping[str, Any], envelope: Envelope) -> None:
        self.values = values
        self.envelope = envelope

    def check_names(self, known: Iterable[str]) -> None:
        """A name that the endpoint does not know is refused (the venue ignores most: a misspelling should show)."""
        accepted = set(known)
        for name in self.values:
            if name not in accepted:
                raise wrong(self.envelope, name, f"no such parameter here.{hint(name, accepted)}")

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool | list | dict):
            raise wrong(self.envelope, name)
        return plain(value) if isinstance(value, Decimal) else str(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise missing(self.envelope, name)
        return value

    def one_of(self, name: str, allowed: Iterable[str], default: str | None = None) -> str:
        value = self.text(name) or default
        if value is None:
            raise missing(self.envelope, name)
        if value not in allowed:
            raise wrong(self.envelope, name)
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        value = self.text(name)
        if value is None:
            return default
        if not value.lstrip("-").isascii() or not value.lstrip("-").isdigit():
            raise wrong(self.envelope, name)
        return int(value)

    def flag(self, name: str) -> bool:
        """0/1, false/true."""
        value = self.values.get(name)
        if value is None or value == "":
            return False
        text = str(value).lower()
        if text not in ("0", "1", "true", "false"):
            raise wrong(self.envelope, name)
        return text in ("1", "true")

    def decimal(self, name: str) -> Decimal | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise wrong(self.envelope, name) from None
        if not number.is_finite():
            raise wrong(self.envelope, name)
        return number

    def items(self, name: str) -> list[str]:
        """A JSON array, or texts with commas between."""
        value = self.values.get(name)
        if isinstance(value, list):
            return [str(item) for item in value]
        text = self.text(name)
        return [] if text is None else [item for item in text.split(",") if item]


def read_query(text: str) -> dict[str, str]:
    return dict(split_form(text))


def read_json(body: bytes, envelope: Envelope) -> Any:
    """The JSON body of a POST (an empty one stands for `{}`); numbers as int or Decimal."""
    if not body.strip():
        return {}
    try:
        return json.loads(body, parse_float=Decimal)
    except ValueError:
        raise wrong(envelope, "body", "not json") from None


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def encoded(value: Any) -> bytes:
    """JSON with Decimals as bare numbers."""
    return _ENCODER.encode(value)


def zipped(value: Any) -> bytes:
    """A gzip frame of JSON (or of text written already)."""
    return gzip.compress(value.encode() if isinstance(value, str) else encoded(value), compresslevel=1, mtime=0)


def bare(value: Decimal | int | None) -> msgspec.Raw | None:
    """A JSON number without superfluous zeros, as derivatives write them."""
    return None if value is None else msgspec.Raw(plain(Decimal(value)).encode())


def double_text(value: Decimal) -> str:
    """A number as Spot prints doubles: `9144.0`, `0.0`, `1.98E-4`, `1.3640078E7`."""
    if not value:
        return "0.0"
    size = abs(value)
    if Decimal("0.001") <= size < 10_000_000:
        text = plain(value)
        return text if "." in text else f"{text}.0"
    sign, digits, _ = value.normalize().as_tuple()
    mantissa = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{mantissa}E{value.adjusted()}"


def double(value: Decimal) -> msgspec.Raw:
    return msgspec.Raw(double_text(value).encode())


def deep(value: Decimal) -> str:
    """A Spot amount as order queries print it: 18 decimals, `0.0` for nothing."""
    return format(value, ".18f") if value else "0.0"
