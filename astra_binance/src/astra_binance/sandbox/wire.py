"""What goes over the wire: product families, parameters in, JSON and error bodies out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from astra.sandbox.toolkit import split_form

_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")

Choice = TypeVar("Choice", bound=StrEnum)


class Family(StrEnum):
    """The API families; the values are the products of the markets."""

    SPOT = "spot"
    USDM = "usdm"
    COINM = "coinm"
    OPTIONS = "options"

    @property
    def is_futures(self) -> bool:
        return self in (Family.USDM, Family.COINM)


class Refusal(Exception):
    """The venue says no: HTTP status, code and text as its error pages print them."""

    def __init__(self, code: int, message: str, *, status: int = 400, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.extra = dict(extra or {})
        """Further members of the body (`data` of a failed cancel-and-replace)."""

    @property
    def body(self) -> dict[str, Any]:
        return {"code": self.code, "msg": self.message, **self.extra}


class Params:
    """The parameters of a call. Every reader refuses what it cannot read, in the venue's words."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    @classmethod
    def of(cls, query: str, body: str) -> Params:
        """Query string and form body together; where both name a parameter, the query string wins."""
        return cls(dict(split_form(body)) | dict(split_form(query)))

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def check_names(self, accepted: Iterable[str]) -> None:
        """Refuse names that the call does not read (-1104).

        The futures families ignore them in silence. The sandbox does not: a misspelt parameter of an order is an error
        that should show here, not with money.
        """
        known = set(accepted)
        unread = [name for name in self.values if name not in known]
        if unread:
            read, sent = len(self.values) - len(unread), len(self.values)
            raise Refusal(
                -1104,
                f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
                f" Unread: {', '.join(sorted(unread))}",
            )

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value == "":
            raise Refusal(-1105, f"Parameter '{name}' was empty.")
        return value

    def need(self, name: str) -> str:
        value = self.values.get(name)
        if not value:
            raise missing(name)
        return value

    def decimal(self, name: str) -> Decimal | None:
        value = self.text(name)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value):
            raise illegal(name, r"^([0-9]{1,20})(\.[0-9]{1,20})?$")
        return Decimal(value)

    def need_decimal(self, name: str) -> Decimal:
        self.need(name)
        value = self.decimal(name)
        assert value is not None
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        value = self.text(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value):
            raise illegal(name, "^[0-9]{1,20}$")
        return int(value)

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise Refusal(-1130, f"Data sent for parameter '{name}' is not valid.")
        return value.lower() == "true"

    def client_id(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _CLIENT_ID.fullmatch(value):
            raise illegal(name, "^[.A-Z:/a-z0-9_-]{1,36}$")
        return value

    def array(self, name: str) -> list[Any]:
        """A JSON array in a parameter."""
        try:
            value = msgspec.json.decode(self.need(name).encode())
        except msgspec.DecodeError:
            value = None
        if not isinstance(value, list):
            raise illegal(name, "a JSON array")
        return value

    def limit(self, default: int, most: int) -> int:
        """`limit`, cut to the most that is allowed."""
        value = self.integer("limit", default)
        assert value is not None
        if value < 1:
            raise Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, most)


def missing(name: str) -> Refusal:
    return Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, legal: str) -> Refusal:
    return Refusal(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def not_required(name: str) -> Refusal:
    return Refusal(-1106, f"Parameter '{name}' sent when not required.")


def chosen(kind: type[Choice], value: str, refusal: Refusal) -> Choice:
    """The member named so, else the refusal."""
    try:
        return kind(value)
    except ValueError:
        raise refusal from None
