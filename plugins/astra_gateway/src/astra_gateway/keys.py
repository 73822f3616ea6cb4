"""API keys of the gateway: who may call it, and how far.

A key is `{id}.{secret}` with a secret of 256 random bits. The database holds the SHA-256 of the secret alone (a fast
hash is right for a secret that nobody can guess), so that nobody who reads it can use it. A key is shown once, when it
is made.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from pydantic import SecretStr
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    insert,
    select,
    update,
)

from astra.errors import BadRequest
from astra.models.protocols import Clock
from astra_gateway.database import Database
from astra_gateway.errors import ApiKeyRateLimited, ApiKeyRefused, ScopeMissing

HEADER = "x-astra-api-key"
_FORM = f"send the header `{HEADER}: Bearer {{id}}.{{secret}}`"

TABLES = MetaData()
_KEYS = Table(
    "api_keys",
    TABLES,
    Column("id", String(32), primary_key=True),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("name", String(200), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("requests_per_s", Float),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("last_used_ms", BigInteger),
)

STATIC_KEY_ID = "static"
REMEMBERED_KEYS = 4096
LAST_USE_EVERY_MS = 60_000


class Scope(StrEnum):
    """How far a key reaches; each scope includes those before it."""

    READ = "read"
    """Market data, and reading accounts: orders, fills, balances, positions."""
    TRADE = "trade"
    """Placing, changing and cancelling orders."""
    ADMIN = "admin"
    """The gateway itself: keys."""

    def includes(self, other: Scope) -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


class KeyRecord(msgspec.Struct, frozen=True):
    """What is known of a key; its secret is not. Times in ms since the epoch."""

    id: str
    name: str
    scope: Scope
    created_ms: int
    requests_per_s: float | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None
    last_used_ms: int | None = None

    def state(self, now_ms: int) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and now_ms >= self.expires_ms else "active"

    def require(self, scope: Scope) -> None:
        """Raises `ScopeMissing` unless the key reaches as far as `scope`."""
        if not self.scope.includes(scope):
            raise ScopeMissing(
                f"this needs an API key of scope {scope.value}; {self.id} has scope {self.scope.value}. "
                f"Make one with `astra keys create --scope {scope.value}`."
            )


class IssuedKey(msgspec.Struct, frozen=True):
    """A key at the only moment when its secret is known."""

    record: KeyRecord
    secret: SecretStr

    @property
    def key(self) -> str:
        """What a client sends after `Bearer `."""
        return f"{self.record.id}.{self.secret.get_secret_value()}"


class _Verified(msgspec.Struct, frozen=True):
    secret_sha256: bytes
    record: KeyRecord | None
    """None: no such key."""
    checked_at: float


class KeyStore:
    """The keys of one gateway, in its database, and the static one.

    A verified key is remembered for `recheck_s`, so that revocation (by any process) takes effect within that time
    while a busy client costs one look-up a second.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        static_key: SecretStr | None = None,
        recheck_s: float = 0.8,
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self.database = database
        self.clock = clock
        self._static_sha256 = None if static_key is None else _sha256(static_key.get_secret_value())
        self._recheck_s = recheck_s
        self._new_secret = new_secret
        self._verified: OrderedDict[str, _Verified] = OrderedDict()
        self._buckets: OrderedDict[str, _TokenBucket] = OrderedDict()

    async def create(
        self,
        name: str = "",
        scope: Scope = Scope.READ,
        *,
        expires_ms: int | None = None,
        requests_per_s: float | None = None,
    ) -> IssuedKey:
        """Make a key. Its secret is in the answer and nowhere else."""
        if requests_per_s is not None and requests_per_s <= 0:
            raise BadRequest(f"a key's rate must be positive, not {requests_per_s} requests/s")
        now_ms = self._now_ms()
        if expires_ms is not None and expires_ms <= now_ms:
            raise BadRequest("the key would be expired from the start")
        secret = self._new_secret()
        record = KeyRecord(
            id="".join(secrets.choice(string.ascii_lowercase) for _ in range(12)),
            name=name,
            scope=scope,
            created_ms=now_ms,
            requests_per_s=requests_per_s,
            expires_ms=expires_ms,
        )
        row = msgspec.to_builtins(record) | {"secret_sha256": _sha256(secret)}

        def store(connection: Connection) -> None:
            connection.execute(insert(_KEYS).values(**row))

        await self.database.run(TABLES, store)
        self._verified.pop(record.id, None)
        return IssuedKey(record, SecretStr(secret))

    async def list(self) -> Sequence[KeyRecord]:
        """All keys, oldest first, revoked and expired ones too."""

        def read(connection: Connection) -> Sequence[KeyRecord]:
            rows = connection.execute(select(_KEYS).order_by(_KEYS.c.created_ms, _KEYS.c.id)).mappings()
            return [_record(row) for row in rows]

        return await self.database.run(TABLES, read)

    async def revoke(self, key_id: str) -> KeyRecord:
        """End a key. Raises `BadRequest` when there is none with this id."""
        now_ms = self._now_ms()

        def mark(connection: Connection) -> KeyRecord | None:
            alive = (_KEYS.c.id == key_id) & _KEYS.c.revoked_ms.is_(None)
            connection.execute(update(_KEYS).where(alive).values(revoked_ms=now_ms))
            return _find(connection, key_id)[1]

        record = await self.database.run(TABLES, mark)
        self._verified.pop(key_id, None)
        if record is None:
            raise BadRequest(f"there is no key with id {key_id!r}; `astra keys list` shows those that exist")
        return record

    async def verify(self, header: str | None) -> KeyRecord:
        """The key that the header carries. Raises `ApiKeyRefused`."""
        if header is None:
            raise ApiKeyRefused(f"the request carries no API key: {_FORM}")
        kind, _, presented = header.strip().partition(" ")
        presented = presented.strip()
        if kind.lower() != "bearer" or not presented:
            raise ApiKeyRefused(f"the header {HEADER} is malformed: {_FORM}")
        if self._static_sha256 is not None and hmac.compare_digest(_sha256(presented), self._static_sha256):
            return KeyRecord(id=STATIC_KEY_ID, name="ASTRA_API_KEY", scope=Scope.ADMIN, created_ms=0)
        key_id, dot, secret = presented.partition(".")
        if not dot or not key_id or not secret:
            raise ApiKeyRefused(f"the API key is malformed: {_FORM}")
        return await self._verify(key_id[:32], _sha256(secret))

    async def check(self, record: KeyRecord) -> KeyRecord:
        """Is a key that was verified before still good? For connections that live long. Raises `ApiKeyRefused`."""
        if record.id == STATIC_KEY_ID:
            return record
        known = await self._known(record.id)
        return self._accepted(known.record)

    def admit(self, record: KeyRecord) -> None:
        """Count one request of the key. Raises `ApiKeyRateLimited` when its rate is used up."""
        if record.requests_per_s is None:
            return
        bucket = self._buckets.get(record.id)
        if bucket is None or bucket.per_s != record.requests_per_s:
            bucket = self._buckets[record.id] = _TokenBucket(record.requests_per_s, self.clock.monotonic())
        self._buckets.move_to_end(record.id)
        while len(self._buckets) > REMEMBERED_KEYS:
            self._buckets.popitem(last=False)
        wait_s = bucket.take(self.clock.monotonic())
        if wait_s > 0:
            raise ApiKeyRateLimited(
                f"this API key may make {record.requests_per_s:g} requests/s; wait {wait_s:.2f} s", retry_after=wait_s
            )

    async def _verify(self, key_id: str, secret_sha256: bytes) -> KeyRecord:
        known = await self._known(key_id)
        if not hmac.compare_digest(known.secret_sha256, secret_sha256):
            raise ApiKeyRefused("the API key is not known here; `astra keys list` shows those that exist")
        record = self._accepted(known.record)
        await self._note_use(record)
        return record

    async def _known(self, key_id: str) -> _Verified:
        known = self._verified.get(key_id)
        now = self.clock.monotonic()
        if known is None or now - known.checked_at >= self._recheck_s:
            secret_sha256, record = await self.database.run(TABLES, lambda connection: _find(connection, key_id))
            known = self._verified[key_id] = _Verified(secret_sha256, record, now)
        self._verified.move_to_end(key_id)
        while len(self._verified) > REMEMBERED_KEYS:
            self._verified.popitem(last=False)
        return known

    def _accepted(self, record: KeyRecord | None) -> KeyRecord:
        if record is None:
            raise ApiKeyRefused("the API key is not known here; `astra keys list` shows those that exist")
        state = record.state(self._now_ms())
        if state != "active":
            raise ApiKeyRefused(f"the API key {record.id} is {state}; `astra keys create` makes a new one")
        return record

    async def _note_use(self, record: KeyRecord) -> None:
        now_ms = self._now_ms()
        if record.last_used_ms is not None and now_ms - record.last_used_ms < LAST_USE_EVERY_MS:
            return
        known = self._verified[record.id]
        used = msgspec.structs.replace(record, last_used_ms=now_ms)
        self._verified[record.id] = msgspec.structs.replace(known, record=used)

        def mark(connection: Connection) -> None:
            connection.execute(update(_KEYS).where(_KEYS.c.id == record.id).values(last_used_ms=now_ms))

        await self.database.run(TABLES, mark)

    def _now_ms(self) -> int:
        return self.clock.wall_ns() // 1_000_000


class _TokenBucket:
    """Admits `per_s` requests a second, and as many at once after a pause (at least one)."""

    def __init__(self, per_s: float, now: float) -> None:
        self.per_s = per_s
        self._most = max(1.0, per_s)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> float:
        """0 when the request is admitted, else the seconds until one would be."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self.per_s)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self.per_s
        self._tokens -= 1.0
        return 0.0


_NOBODY = bytes(32)
"""Compared with where there is no such key, so that the answer takes the same time."""


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _find(connection: Connection, key_id: str) -> tuple[bytes, KeyRecord | None]:
    row = connection.execute(select(_KEYS).where(_KEYS.c.id == key_id)).mappings().first()
    return (_NOBODY, None) if row is None else (bytes(row["secret_sha256"]), _record(row))


def _record(row: RowMapping) -> KeyRecord:
    fields: dict[str, Any] = {name: row[name] for name in KeyRecord.__struct_fields__}
    return msgspec.convert(fields, KeyRecord)
