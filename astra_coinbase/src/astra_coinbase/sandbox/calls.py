"""What an endpoint of Advanced Trade is: its path, who may call it, what it reads."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from astra.errors import hint
from astra.sandbox import Account, HttpRequest
from astra.sandbox.toolkit import split_form
from astra_coinbase.sandbox.wire import Refusal, bad_argument, parse_iso

PREFIX = "/api/v3/brokerage"
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_JSON = msgspec.json.Decoder(float_hook=Decimal)


def decode_json(payload: bytes | str) -> Any:
    """JSON with exact numbers. Raises `msgspec.DecodeError`."""
    return _JSON.decode(payload)


class Params:
    """Query parameters; a name may be repeated. Every reader refuses what it cannot read."""

    def __init__(self, query: str) -> None:
        self.values: dict[str, list[str]] = {}
        for name, value in split_form(query):
            self.values.setdefault(name, []).append(value)

    def check_names(self, accepted: frozenset[str]) -> None:
        for name in self.values:
            if name not in accepted:
                raise bad_argument(f"unknown parameter {name}.{hint(name, accepted)}")

    def all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def text(self, name: str) -> str | None:
        found = self.values.get(name)
        return found[-1] if found else None

    def need(self, name: str) -> str:
        found = self.text(name)
        if not found:
            raise bad_argument(f"{name} is required")
        return found

    def integer(self, name: str, default: int, most: int | None = None) -> int:
        found = self.text(name)
        if found is None:
            return default
        if not found.isascii() or not found.isdigit():
            raise bad_argument(f"{name} must be a number")
        return int(found) if most is None else min(int(found), most)

    def time(self, name: str) -> int | None:
        """A time in RFC 3339, in ms."""
        found = self.text(name)
        if found is None:
            return None
        time = parse_iso(found)
        if time is None:
            raise bad_argument(f"{name} must be a time in RFC 3339")
        return time


class Body:
    """The object in a request body; numbers are strings in it."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self.values = values
        self._where = where

    @classmethod
    def of(cls, payload: bytes) -> Body:
        try:
            found = decode_json(payload) if payload else {}
        except msgspec.DecodeError:
            raise bad_argument("the body is not JSON") from None
        if not isinstance(found, dict):
            raise bad_argument("the body must be an object")
        return cls(found)

    def check_names(self, accepted: frozenset[str]) -> None:
        for name in self.values:
            if name not in accepted:
                raise bad_argument(f"unknown member {self._where}{name}.{hint(name, accepted)}")

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise bad_argument(f"{self._where}{name} must be a string")
        return value

    def need(self, name: str) -> str:
        found = self.text(name)
        if found is None:
            raise bad_argument(f"{self._where}{name} is required")
        return found

    def decimal(self, name: str) -> Decimal | None:
        found = self.text(name)
        if found is None:
            return None
        if not _DECIMAL.fullmatch(found):
            raise bad_argument(f"{self._where}{name} must be a positive decimal number in a string")
        return Decimal(found)

    def boolean(self, name: str) -> bool:
        value = self.values.get(name, False)
        if type(value) is not bool:
            raise bad_argument(f"{self._where}{name} must be true or false")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(row, str) for row in value):
            raise bad_argument(f"{self._where}{name} must be a list of strings")
        return value

    def inner(self, name: str) -> Body:
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise bad_argument(f"{self._where}{name} is required")
        return Body(value, f"{self._where}{name}.")


class Call(msgspec.Struct, frozen=True):
    """A request that passed limits, authentication and the check of names."""

    params: Params
    body: Body
    path: Mapping[str, str]
    """What the braces in the path stand for."""
    now_ms: int
    caller: Account | None = None

    @property
    def account(self) -> Account:
        """The account of a private call."""
        if self.caller is None:
            raise LookupError("the endpoint asks for an account without being private")
        return self.caller


class Endpoint(msgspec.Struct, frozen=True):
    handler: Callable[[Call], Any]
    """Gives the body: anything msgspec encodes. Raises `Refusal`."""
    accepts: frozenset[str] = frozenset()
    private: bool = True
    command: bool = False
    """Places, amends or cancels."""
    cached: bool = False


class Routes:
    """(method, path) -> endpoint. Paths are below the prefix; `{name}` stands for one segment."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        """`endpoints`: "GET /orders/historical/{order_id}" -> endpoint; fixed paths come before those with braces."""
        self._fixed = {name: endpoint for name, endpoint in endpoints.items() if "{" not in name}
        self._open = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", name)), endpoint)
            for name, endpoint in endpoints.items()
            if "{" in name
        ]

    def find(self, request: HttpRequest) -> tuple[Endpoint, Mapping[str, str]] | None:
        if not request.path.startswith(f"{PREFIX}/"):
            return None
        name = f"{request.method} {request.path.removeprefix(PREFIX)}"
        if name in self._fixed:
            return self._fixed[name], {}
        for pattern, endpoint in self._open:
            match = pattern.fullmatch(name)
            if match:
                return endpoint, match.groupdict()
        return None


def names(text: str) -> frozenset[str]:
    """Names, written with spaces between."""
    return frozenset(text.split())


def page(rows: Sequence[Any], params: Params, default: int, most: int) -> tuple[Sequence[Any], str]:
    """A page of rows and the cursor of the next one ("" after the last). Cursors are base64, padded."""
    start, cursor = 0, params.text("cursor")
    if cursor:
        try:
            start = int(base64.b64decode(cursor, validate=True))
        except (binascii.Error, ValueError):
            raise bad_argument("invalid cursor") from None
    limit = params.integer("limit", default, most) or default
    end = start + limit
    return rows[start:end], base64.b64encode(str(end).encode()).decode() if end < len(rows) else ""


__all__ = ["PREFIX", "Body", "Call", "Endpoint", "Params", "Refusal", "Routes", "decode_json", "names", "page"]
