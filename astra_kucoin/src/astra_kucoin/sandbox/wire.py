"""What goes over the wire: parameters in, numbers and error bodies out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from astra.sandbox.toolkit import plain

SPOT = "spot"
FUTURES = "futures"

_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)

Meant = TypeVar("Meant")


class Refusal(Exception):
    """The venue says no. Most refusals travel with HTTP 200: the code in the body is what counts."""

    def __init__(self, code: str, message: str, *, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    @property
    def body(self) -> dict[str, Any]:
        return {"code": self.code, "msg": self.message}


class Params:
    """The parameters of a call: a query, or the object in the body. Every reader refuses what it cannot read with
    `code`, the family's code for bad parameters."""

    def __init__(self, values: Mapping[str, Any], code: str) -> None:
        self.values = dict(values)
        self.code = code

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def bad(self, message: str) -> Refusal:
        return Refusal(self.code, message)

    def check_names(self, accepted: Iterable[str]) -> None:
        """Refuse names that the call does not read.

        The venue ignores them in silence. The sandbox does not: a misspelt parameter of an order is an error that
        should show here, not with money.
        """
        unread = sorted(self.values.keys() - set(accepted))
        if unread:
            raise self.bad(f"Unknown parameter(s): {', '.join(unread)}")

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise self.bad(f"{name} is invalid")
        return str(value)

    def need(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self.bad(f"{name} is required")
        return value

    def decimal(self, name: str) -> Decimal | None:
        value = self.text(name)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value):
            raise self.bad(f"{name} is invalid")
        return Decimal(value)

    def integer(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise self.bad(f"{name} is invalid")
        return int(value)

    def bounded(self, name: str, default: int, least: int, most: int) -> int:
        value = self.integer(name)
        if value is None:
            return default
        if not least <= value <= most:
            raise self.bad(f"{name} must be between {least} and {most}")
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if value in (None, "", False, "false"):
            return False
        if value in (True, "true"):
            return True
        raise self.bad(f"{name} is invalid")

    def choice(self, name: str, meanings: Mapping[str, Meant], default: str | None = None) -> Meant:
        """What the text stands for. Case counts, as it does at the venue."""
        value = self.text(name)
        if value is None:
            value = default
        if value is None:
            raise self.bad(f"{name} is required")
        if value not in meanings:
            raise self.bad(f"{name} is invalid, one of {', '.join(meanings)} is expected")
        return meanings[value]


def body_of(payload: bytes, code: str) -> Any:
    """The JSON in a body; an empty one is an empty object."""
    if not payload:
        return {}
    try:
        return _DECODER.decode(payload)
    except msgspec.DecodeError:
        raise Refusal(code, "The request body is not valid JSON", status=400) from None


def double(value: Decimal) -> msgspec.Raw:
    """A JSON number as the futures back end spells doubles: `84474.0`, `2.0E-4`, `1.5E9`."""
    if not value:
        return msgspec.Raw(b"0.0")
    exponent = value.adjusted()
    if -4 < exponent < 7:
        text = plain(value)
        return msgspec.Raw((text if "." in text else f"{text}.0").encode())
    mantissa = plain(value.scaleb(-exponent))
    return msgspec.Raw((f"{mantissa if '.' in mantissa else mantissa + '.0'}E{exponent}").encode())


def whole(value: Decimal) -> int:
    """Contracts as a JSON integer."""
    return int(value)


def check_client_id(params: Params, name: str = "clientOid") -> str | None:
    """At most 40 characters of letters, digits, `_` and `-`."""
    value = params.text(name)
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", value):
        raise params.bad(f"{name} is invalid: at most 40 letters, digits, _ and -")
    return value
