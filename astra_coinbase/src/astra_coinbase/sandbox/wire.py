"""What goes over the wire of both protocols: times, ids, refusals."""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

_HALF = 2**64
_ID_MASK = 0x9A3C_51E7_08D2_B64F
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

NO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: no time."""


def iso_ns(wall_ns: int) -> str:
    """RFC 3339 with up to nine decimals, superfluous zeros dropped, as stream envelopes print it."""
    seconds, fraction = divmod(wall_ns, 10**9)
    whole = (_EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    decimals = f"{fraction:09d}".rstrip("0")
    return f"{whole}.{decimals}Z" if decimals else f"{whole}Z"


def iso_ms(time_ms: int) -> str:
    """RFC 3339 of a time in ms."""
    return iso_ns(time_ms * 1_000_000)


def parse_iso(text: str) -> int | None:
    """A time in RFC 3339 as ms since the epoch; None if it is not one."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return int((moment - _EPOCH) / datetime.timedelta(milliseconds=1))


def order_uuid(order_id: int) -> str:
    """The id that Advanced Trade shows for an order of the engine (reversible: `order_number`)."""
    return _uuid_of("order", order_id)


def order_number(text: str) -> int | None:
    """The engine's order that an id stands for; None if the venue never made such an id."""
    try:
        number = (uuid.UUID(text).int % _HALF) ^ _ID_MASK
    except ValueError:
        return None
    return number if _uuid_of("order", number) == text else None


def _uuid_of(kind: str, number: int) -> str:
    high = int.from_bytes(hashlib.sha256(f"{kind}:{number}".encode()).digest()[:8])
    return str(uuid.UUID(int=high * _HALF + (number ^ _ID_MASK)))


def made_uuid(*parts: object) -> str:
    """A UUID that is always the same for the same parts (accounts, portfolios, private trade ids)."""
    return str(uuid.UUID(bytes=hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:16], version=5))


class Refusal(Exception):
    """Advanced Trade says no with an HTTP status and an error body."""

    def __init__(self, status: int, error: str, message: str, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Mapping[str, Any] = body or {"error": error, "error_details": message, "message": message}


def unauthorized() -> Refusal:
    return Refusal(401, "UNAUTHORIZED", "Unauthorized", {"error": "UNAUTHORIZED", "message": "Unauthorized"})


def not_found(message: str) -> Refusal:
    return Refusal(404, "NOT_FOUND", message)


def no_product() -> Refusal:
    return not_found("valid product_id is required")


def bad_argument(message: str) -> Refusal:
    return Refusal(400, "INVALID_ARGUMENT", message)
