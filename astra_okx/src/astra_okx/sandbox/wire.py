"""What goes over the wire: products, parameters in, envelopes and refusals out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from astra.sandbox.toolkit import split_form

_NUMBER = re.compile(r"[0-9]{1,24}(\.[0-9]{1,24})?")
_INTEGER = re.compile(r"[0-9]{1,20}")
_CLIENT_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_TAG = re.compile(r"[A-Za-z0-9]{1,16}")


class InstType(StrEnum):
    """The venue's products; `product` is the name that markets carry."""

    SPOT = "SPOT"
    SWAP = "SWAP"
    FUTURES = "FUTURES"
    OPTION = "OPTION"

    @property
    def product(self) -> str:
        return self.value.lower()

    @property
    def is_derivative(self) -> bool:
        return self is not InstType.SPOT


class Refusal(Exception):
    """The venue refuses a request as a whole: code and text of the envelope, HTTP status."""

    def __init__(self, code: str, message: str, *, status: int = 200, bare: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.bare = bare
        """Without `data` (what authentication answers)."""

    @property
    def body(self) -> dict[str, Any]:
        if self.bare:
            return {"msg": self.message, "code": self.code}
        return {"code": self.code, "data": [], "msg": self.message}


class RowRefusal(Exception):
    """One order of a request is refused: `sCode` and `sMsg` of its row."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def empty(name: str) -> Refusal:
    return Refusal("50014", f"Parameter {name} can not be empty.", status=400)


def wrong(name: str) -> Refusal:
    return Refusal("51000", f"Parameter {name} error", status=400)


def no_instrument() -> Refusal:
    return Refusal("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


class Params:
    """The parameters of a call, or of one order of it. Every reader refuses what it cannot read.

    Values are texts, but for the JSON booleans and integers of bodies. Refusals are of the whole request (`Refusal`);
    where they concern a row, `as_row` turns them into the row's.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)

    @classmethod
    def of_query(cls, query: str) -> Params:
        return cls(dict(split_form(query)))

    def check_names(self, accepted: Iterable[str]) -> None:
        """Refuse names that the call does not read (51000).

        The venue ignores them in silence. The sandbox does not: a misspelt parameter of an order is an error that
        should show here, not with money.
        """
        unread = sorted(self.values.keys() - set(accepted))
        if unread:
            raise wrong(unread[0])

    def text(self, name: str) -> str | None:
        """The text; None where it is missing or empty (the venue makes no difference)."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise wrong(name)
        return str(value)

    def need(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise empty(name)
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise wrong(name)
        return default if value is None else value

    def decimal(self, name: str) -> Decimal | None:
        """A positive number or zero."""
        value = self.text(name)
        if value is None:
            return None
        if not _NUMBER.fullmatch(value):
            raise wrong(name)
        return Decimal(value)

    def need_decimal(self, name: str) -> Decimal:
        value = self.decimal(name)
        if value is None:
            raise empty(name)
        return value

    def integer(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise wrong(name)
        return int(value)

    def boolean(self, name: str) -> bool:
        value = self.values.get(name, False)
        if isinstance(value, str):
            if value not in ("true", "false", ""):
                raise wrong(name)
            return value == "true"
        if not isinstance(value, bool):
            raise wrong(name)
        return value

    def client_id(self, name: str = "clOrdId") -> str | None:
        """1-32 letters and digits (51000 otherwise)."""
        value = self.text(name)
        if value is not None and not _CLIENT_ID.fullmatch(value):
            raise wrong(name)
        return value

    def tag(self) -> str:
        value = self.text("tag")
        if value is not None and not _TAG.fullmatch(value):
            raise wrong("tag")
        return value or ""

    def limit(self, default: int, most: int) -> int:
        value = self.integer("limit")
        return default if value is None else min(max(1, value), most)


def json_of(payload: bytes | str) -> Any:
    """The JSON of a body (50002 if it is none)."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal("50002", "JSON syntax error", status=400) from None


def success(rows: Sequence[Any]) -> dict[str, Any]:
    """The envelope of a read, or of a setting."""
    return {"code": "0", "data": rows, "msg": ""}


def verdict(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """(code, msg) over the rows of a command: 0 all accepted, 1 all refused, 2 some of them."""
    refused = sum(row["sCode"] != "0" for row in rows)
    if not refused:
        return "0", ""
    if refused == len(rows):
        return "1", "Operation failed." if len(rows) == 1 else "All operations failed"
    return "2", "Bulk operation partially succeeded."
