"""Commands that an earlier process left without an answer: reported, and placements resolved when that is possible."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from astra.errors import (
    AstraError,
    AuthenticationError,
    OrderOutcomeUnknown,
    PermissionDenied,
    RateLimited,
    StreamClosed,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.protocols import Host
from astra_journal.errors import JournalError
from astra_journal.reader import PLACEMENTS, Kind
from astra_journal.redaction import key_id, redacted, secrets_of
from astra_journal.writer import Draft, JournalWriter

logger = logging.getLogger("astra.journal")

LISTED = 20
"""Open commands that are logged one by one."""
FIRST_PAUSE_S = 1.0

_UNSETTLED = """
    SELECT * FROM entries AS command WHERE kind = 'COMMAND' AND client_order_id = :client_order_id
    AND market = :market AND key_id = :key_id AND operation IN ('place_order', 'place_orders')
    AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.command = command.seq AND settles = 1)
    ORDER BY seq
"""
_FOLLOWED = "SELECT count(*) AS count FROM entries WHERE command = :seq"
_SETTLED = "SELECT count(*) AS count FROM entries WHERE command = :seq AND settles = 1"


class Resolver:
    """Finds out what became of commands whose outcome the journal does not say."""

    def __init__(self, host: Host, writer: JournalWriter, retry_cap_s: float) -> None:
        self._host = host
        self._writer = writer
        self._retry_cap_s = retry_cap_s
        self._left: list[Mapping[str, Any]] = []
        self._abandoned: set[int] = set()
        self._told: set[int] = set()

    def report(self, left: Sequence[Mapping[str, Any]]) -> None:
        """Take the commands that were left open, and say so."""
        self._left = [row for row in left if row["operation"] in PLACEMENTS and row["client_order_id"]]
        self._abandoned = {row["seq"] for row in left}
        logger.warning(
            "the journal %s holds %d command(s) of earlier processes without a known outcome",
            self._writer.path,
            len(left),
        )
        for row in left[:LISTED]:
            logger.warning("%s", _described(row))
        if len(left) > LISTED:
            logger.warning("and %d more: astra journal --open", len(left) - LISTED)
        others = len(left) - len(self._left)
        if others:
            logger.warning(
                "%d of them are no placements and stay open: look at the account, then astra journal --settle NUMBER",
                others,
            )

    async def run(self) -> None:
        """Resolve the placements, again and again until none is left that can be."""
        pause_s = FIRST_PAUSE_S
        while self._left:
            try:
                self._left = [row for row in self._left if not await self._is_done(row)]
            except StreamClosed:
                return  # the application ends; the next start goes on
            if self._left:
                await self._host.clock.sleep(pause_s)
                pause_s = min(2 * pause_s, self._retry_cap_s)

    async def _is_done(self, row: Mapping[str, Any]) -> bool:
        """Resolve one placement. True: it is settled, or cannot be and stays open."""
        try:
            await self._ask(row)
            if (await self._writer.read(_SETTLED, {"seq": row["seq"]}))[0]["count"]:
                return True
            reason = f"account {row['account']!r} has other keys now than those that it was sent with"
        except (AuthenticationError, VenueUnavailable, RateLimited, OrderOutcomeUnknown) as error:
            if not _is_final(error):
                self._tell_once(row, f"is asked for again: {error}")
                return False
            reason = str(error.__cause__ or error)
        except StreamClosed:
            raise
        except (AstraError, JournalError) as error:
            reason = str(error)
        logger.error("%s; it stays open: %s", _described(row), reason)
        return True

    async def _ask(self, row: Mapping[str, Any]) -> None:
        """Ask the venue through the application; what it says comes back by `resolved`.

        The request left after the command was written and before this process began.
        """
        astra: Any = self._host.astra
        earliest = row["time_ns"] // 1_000_000
        await astra.resolve_order(
            row["market"],
            row["client_order_id"],
            since=earliest,
            until=max(earliest, self._writer.started_ns // 1_000_000),
            credentials=row["account"],
        )

    async def resolved(
        self, market: Market, client_order_id: str, body: Mapping[str, Any], credentials: Credentials
    ) -> None:
        """Somebody found out what became of a placement: write it down, where its outcome was not known.

        Raises `JournalError`.
        """
        ids = {"client_order_id": client_order_id, "market": market.symbol, "key_id": key_id(credentials)}
        drafts = []
        for row in await self._writer.read(_UNSETTLED, ids):
            on_its_way = not (await self._writer.read(_FOLLOWED, {"seq": row["seq"]}))[0]["count"]
            if on_its_way and row["seq"] not in self._abandoned:
                continue  # its own answer is waited for, here or in another process
            drafts.append(
                Draft(
                    time_ns=self._host.clock.wall_ns(),
                    kind=Kind.RESOLUTION.value,
                    operation=row["operation"],
                    exchange=row["exchange"],
                    account=row["account"],
                    key_id=row["key_id"],
                    market=row["market"],
                    client_order_id=client_order_id,
                    order_id=body["order"].get("id") if body["placed"] else None,
                    command=row["seq"],
                    settles=True,
                    body=redacted(body, secrets_of(credentials)),
                )
            )
        if drafts:
            await self._writer.append(drafts)
            logger.warning(
                "%s %s of which no answer was known: %s",
                market.symbol,
                client_order_id,
                f"placed, {body['order']['status']}" if body["placed"] else "not placed",
            )

    def _tell_once(self, row: Mapping[str, Any], what: str) -> None:
        level = logging.DEBUG if row["seq"] in self._told else logging.WARNING
        self._told.add(row["seq"])
        logger.log(level, "%s %s", _described(row), what)


def _is_final(error: VenueError) -> bool:
    """Would asking again get the same error? Credentials that are not configured yet may come, and a venue that is
    down comes back; keys that the venue refuses stay refused."""
    cause = error.__cause__ if isinstance(error, OrderOutcomeUnknown) else error
    if isinstance(cause, AuthenticationError):
        return cause.code is not None
    return isinstance(cause, PermissionDenied | UnsupportedOperation)


def _described(row: Mapping[str, Any]) -> str:
    when = datetime.datetime.fromtimestamp(row["time_ns"] / 1e9, datetime.UTC).isoformat(timespec="milliseconds")
    name = row["client_order_id"] or row["order_id"] or ""
    where = row["market"] or row["exchange"]
    return f"command {row['seq']}: {row['operation']} {where} {name} of {when}, account {row['account']!r}"
