"""JSON-RPC as the gateway speaks it: errors, parameters, methods, the envelope of answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from astra.errors import hint
from astra.sandbox import Account

_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE]-?[0-9]{1,2})?")

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602


class RpcError(Exception):
    """The gateway says no. `data` explains."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"message": self.message, "code": self.code}
        return body | ({} if self.data is None else {"data": self.data})

    @property
    def http_status(self) -> int:
        return {13004: 401, 13009: 401, 13021: 403, 10028: 429}.get(self.code, 400)


def invalid(name: str, reason: str) -> RpcError:
    return RpcError(INVALID_PARAMS, "Invalid params", {"param": name, "reason": reason})


def no_method() -> RpcError:
    return RpcError(METHOD_NOT_FOUND, "Method not found")


def unauthorized(reason: str) -> RpcError:
    return RpcError(13009, "unauthorized", {"reason": reason})


def no_instrument() -> RpcError:
    return RpcError(13020, "not_found", {"param": "instrument_name", "reason": "instrument not found"})


def too_many_requests() -> RpcError:
    return RpcError(10028, "too_many_requests")


class RpcParams:
    """Parameters: JSON values in a body or frame, texts in a query string."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def check_names(self, accepted: frozenset[str]) -> None:
        for name in self.values:
            if name not in accepted:
                raise invalid(name, f"unknown parameter.{hint(name, accepted)}")

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise invalid(name, "must be a string")

    def need(self, name: str) -> str:
        found = self.text(name)
        if not found:
            raise invalid(name, "is required")
        return found

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        found = self.text(name) or default
        if found not in allowed or found is None:
            raise invalid(name, f"must be one of {', '.join(allowed)}")
        return found

    def decimal(self, name: str) -> Decimal | None:
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, Decimal | int) and not isinstance(value, bool):
            return Decimal(value)
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            return Decimal(value)
        raise invalid(name, "must be a number")

    def integer(self, name: str, default: int, most: int | None = None) -> int:
        found = self.decimal(name)
        if found is None:
            return default
        if found != found.to_integral_value():
            raise invalid(name, "must be an integer")
        return int(found) if most is None else min(int(found), most)

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.values.get(name, default)
        if type(value) is bool:
            return value
        if value in ("true", "false", "True", "False"):
            return bool(value in ("true", "True"))
        raise invalid(name, "must be a boolean")

    def texts(self, name: str) -> list[str]:
        value = self.values.get(name)
        if not isinstance(value, list) or not all(isinstance(row, str) for row in value):
            raise invalid(name, "must be an array of strings")
        return value


class RpcCall(msgspec.Struct, frozen=True):
    """A call that passed limits, authentication and the check of names."""

    params: RpcParams
    now_ms: int
    caller: Account | None = None

    @property
    def account(self) -> Account:
        """The account of a private call."""
        if self.caller is None:
            raise LookupError("the method asks for an account without being private")
        return self.caller


class Method(msgspec.Struct, frozen=True):
    handler: Callable[[RpcCall], Any]
    """Gives the result: anything msgspec encodes. Raises `RpcError`."""
    accepts: frozenset[str] = frozenset()
    command: bool = False
    """Places, amends or cancels."""


def number(value: Decimal | None) -> float:
    """A number as the gateway prints it: JSON's own."""
    return float(value) if value is not None else 0.0


def envelope(ident: Any, began_us: int, *, result: Any = None, error: RpcError | None = None) -> dict[str, Any]:
    """The answer to a request (without an id where the request had none)."""
    body: dict[str, Any] = {"jsonrpc": "2.0"}
    if ident is not None:
        body["id"] = ident
    body |= {"result": result} if error is None else {"error": error.body}
    return body | {"usIn": began_us, "usOut": began_us + 250, "usDiff": 250, "testnet": False}
