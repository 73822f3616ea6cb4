"""`Idempotency-Key`: a placement that is repeated is carried out once.

What is about to be sent is stored first (which client order id, until when it may be in flight), so that a repeat, in
this process or another one or after a crash, finds it:

1. The first request claims the key for `CLAIM_S` and sends. Everything it sends leaves within the claim.
2. A repeat with another order or for another account is refused: every order needs a key of its own.
3. A repeat while the first is in flight waits for its answer (in another process: is asked to come back).
4. A repeat after the first was answered gets the same answer, a refusal by the venue included.
5. A repeat after an unknown outcome, or after a claim that ran out, finds out what became of the order. Only when it
   certainly was not placed is it sent again, under the same client order id.

A refusal that depends on more than the order (rate limits, an unreachable venue, keys that were not accepted) is no
answer to keep: nothing was placed, and the key is free again.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from astra.errors import AstraError, AuthenticationError, BadRequest, Outcome, PermissionDenied, VenueError
from astra.models.orders import Order
from astra.models.protocols import Clock
from astra.trading.checks import ClientIdRule
from astra_gateway.database import Database
from astra_gateway.errors import DatabaseUnavailable, GatewayError
from astra_gateway.problems import problem_of

logger = logging.getLogger("astra.rest")

HEADER = "idempotency-key"
LONGEST = 255
CLAIM_S = 90.0
SEND_S = 60.0
RESOLVE_S = 5.0
"""What became of an earlier attempt is looked for so long, twice, before anything is sent."""

TABLES = MetaData()
_TABLE = Table(
    "idempotent_placements",
    TABLES,
    Column("id", LargeBinary(32), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("client_order_id", String(255), nullable=False),
    Column("created_ms", BigInteger, nullable=False, index=True),
    Column("latest_ms", BigInteger, nullable=False),
    Column("claimed_until_ms", BigInteger, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("status", Integer),
    Column("answer", LargeBinary),
)


class KeyReused(GatewayError):
    """The Idempotency-Key was used before, with another body or another account."""

    problem = "idempotency-key-reused"
    status = 422


class InProgress(GatewayError):
    """Another gateway process is carrying out the request with this Idempotency-Key."""

    problem = "idempotency-in-progress"
    status = 409


class Placement(msgspec.Struct, frozen=True):
    """A stored placement. It left the gateway, if at all, between `created_ms` and `latest_ms`."""

    id: bytes
    fingerprint: bytes
    client_order_id: str
    created_ms: int
    latest_ms: int
    claims: int
    status: int | None = None
    answer: bytes | None = None


class Answer(msgspec.Struct, frozen=True):
    """The answer to a placement: an order (200) or a problem document. `repeated`: it was given before."""

    status: int
    body: bytes
    repeated: bool


Place = Callable[[Placement], Awaitable[Order]]
Resolve = Callable[[Placement], Awaitable[Order | None]]


def placement_id(caller: str, key: str) -> bytes:
    """What a placement is stored by: the API key that asked, and its Idempotency-Key. Raises `BadRequest`."""
    if not 1 <= len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise BadRequest(f"the header Idempotency-Key must be 1 to {LONGEST} printable ASCII characters")
    return hashlib.sha256(f"{caller}\n{key}".encode()).digest()


def client_order_id(rule: ClientIdRule, placement: bytes) -> str:
    """The client order id of a placement: derived from what it is stored by alone, in the venue's format."""
    seeded = random.Random(placement)
    return rule.make(seeded, seeded.getrandbits(40))


class Placements:
    """The placements with an Idempotency-Key, in the gateway's database."""

    def __init__(self, database: Database, clock: Clock, *, keep_s: float) -> None:
        self._database = database
        self._clock = clock
        self._keep_ms = round(keep_s * 1000)
        self._flights: dict[bytes, anyio.Event] = {}

    async def answer(self, wanted: Placement, place: Place, resolve: Resolve) -> Answer:
        """Carry out the placement unless it was, and give its answer.

        `place` sends it under the client order id of the placement that it is handed; `resolve` finds out what became
        of an earlier attempt (None: certainly not placed). What they raise passes. Raises `KeyReused`, `InProgress`.
        """
        while wanted.id in self._flights:
            await self._flights[wanted.id].wait()
        landed = self._flights[wanted.id] = anyio.Event()
        try:
            return await self._answer(wanted, place, resolve)
        finally:
            del self._flights[wanted.id]
            landed.set()

    async def _answer(self, wanted: Placement, place: Place, resolve: Resolve) -> Answer:
        now_ms = self._now_ms()
        stored, busy_ms = await self._claim(wanted, now_ms)
        if stored.fingerprint != wanted.fingerprint:
            raise KeyReused("this Idempotency-Key was used for another order; every order needs a key of its own")
        if stored.status is not None:
            return Answer(stored.status, stored.answer or b"", repeated=True)
        if busy_ms:
            raise InProgress(
                "another process is carrying out the request with this Idempotency-Key; ask again with the same body",
                retry_after=min(busy_ms / 1000, 5.0),
            )
        # Unless something better is learnt, the next repeat has to find out what became of the order.
        settle: dict[str, Any] | None = {"claimed_until_ms": 0}
        try:
            order = await resolve(stored) if stored.claims > 1 else None
            if order is None:
                try:
                    order = await place(stored)
                except AstraError as error:
                    settle = _refused(error)
                    raise
            answer = Answer(200, order.model_dump_json().encode(), repeated=False)
            settle = {"status": answer.status, "answer": answer.body}
            return answer
        finally:
            # Shielded: what was learnt is written down before anybody may claim the placement again.
            with anyio.CancelScope(shield=True):
                await self._settle(stored.id, settle)

    async def _claim(self, wanted: Placement, now_ms: int) -> tuple[Placement, int]:
        """The stored placement, and for how many ms more somebody else has claimed it (0: it is ours now)."""
        until_ms = now_ms + round(CLAIM_S * 1000)

        def claim(connection: Connection) -> tuple[Placement, int]:
            old = (_TABLE.c.created_ms < now_ms - self._keep_ms) & (_TABLE.c.claimed_until_ms < now_ms)
            connection.execute(delete(_TABLE).where(old))
            row = connection.execute(select(_TABLE).where(_TABLE.c.id == wanted.id)).mappings().first()
            if row is None:
                claimed = msgspec.structs.replace(wanted, created_ms=now_ms, latest_ms=until_ms, claims=1)
                fields = msgspec.structs.asdict(claimed) | {"claimed_until_ms": until_ms}
                connection.execute(insert(_TABLE).values(**fields))
                return claimed, 0
            stored = Placement(**{name: row[name] for name in Placement.__struct_fields__})
            if stored.status is not None or stored.fingerprint != wanted.fingerprint:
                return stored, 0
            if row["claimed_until_ms"] >= now_ms:
                return stored, max(1, row["claimed_until_ms"] - now_ms)
            same = (_TABLE.c.id == wanted.id) & (_TABLE.c.claims == stored.claims)
            fields = {"claims": stored.claims + 1, "claimed_until_ms": until_ms, "latest_ms": until_ms}
            if connection.execute(update(_TABLE).where(same).values(**fields)).rowcount != 1:
                return stored, 1000
            # `latest_ms` is told as it was: it bounds the attempts before this one.
            return msgspec.structs.replace(stored, claims=stored.claims + 1), 0

        try:
            return await self._database.run(TABLES, claim)
        except IntegrityError:  # another process stored it between our look and our insert
            return await self._database.run(TABLES, claim)

    async def _settle(self, placement: bytes, fields: dict[str, Any] | None) -> None:
        """Write down how a claim ended. Where that fails the claim runs out and the next repeat finds out."""
        now_ms = self._now_ms()

        def write(connection: Connection) -> None:
            this = _TABLE.c.id == placement
            if fields is None:
                connection.execute(delete(_TABLE).where(this))
            else:
                connection.execute(update(_TABLE).where(this).values(latest_ms=now_ms, **fields))

        try:
            await self._database.run(TABLES, write)
        except DatabaseUnavailable:
            logger.error("how a placement ended could not be stored; a repeat will find it out from the venue")

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // 1_000_000


def _refused(error: AstraError) -> dict[str, Any] | None:
    """What to write down of a placement that was refused: its answer, that nobody knows, or (None) nothing at all."""
    if not isinstance(error, VenueError):
        return None
    if error.outcome is Outcome.UNKNOWN:
        return {"claimed_until_ms": 0}
    if error.retryable or isinstance(error, AuthenticationError | PermissionDenied):
        return None
    problem = problem_of(error)
    return {"status": problem.status, "answer": problem.body()}
