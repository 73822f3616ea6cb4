"""The journal round every venue: each command is on the disk before it is sent, and what became of it after."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from astra.directory import canonical_exchange
from astra.errors import AstraError, BadRequest, ConfigError, Outcome, PluginError, VenueError
from astra.hookspecs import hookimpl
from astra.models.base import decimal_text
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import MarginMode, Order, OrderChange, OrderRef, OrderRequest, OrderStatus
from astra.models.protocols import Host
from astra_journal.errors import JournalError, JournalUnavailable
from astra_journal.reader import Kind
from astra_journal.redaction import key_id, redacted, secrets_of
from astra_journal.resolution import Resolver
from astra_journal.settings import JournalSettings
from astra_journal.writer import Draft, JournalWriter

logger = logging.getLogger("astra.journal")

Answer = TypeVar("Answer")

LONGEST_MESSAGE = 2000


class Written(msgspec.Struct, frozen=True):
    """A command that stands in the journal; `seq` is None where it could not be written and was let through."""

    draft: Draft
    seq: int | None
    secrets: list[str]


class CommandJournal:
    """An append-only journal of commands and answers in an SQLite file.

    A command that cannot be written is refused with `JournalUnavailable`. Placements that an earlier process left
    without an answer are resolved in the background as soon as that is possible. Settings: `[middleware.journal]`,
    see `astra_journal.settings.JournalSettings`; to read it: `astra_journal.Journal`.
    """

    api_version = "1.0"
    settings_model: ClassVar[type[JournalSettings]] = JournalSettings

    def __init__(self, host: Host, settings: JournalSettings) -> None:
        self.settings = settings
        self._host = host
        self._writer = JournalWriter(settings.path)
        self._resolver = Resolver(host, self._writer, settings.retry_cap_s)

    @hookimpl
    async def startup(self) -> None:
        try:
            left = await self._writer.open(self._host.clock.wall_ns())
        except JournalError as error:
            raise ConfigError(f"middleware.journal.path: {error}") from error
        if left:
            self._resolver.report(left)
            self._host.start_soon(self._resolver.run, name="resolve open commands")

    @hookimpl
    async def shutdown(self) -> None:
        await self._writer.close()

    # -- commands ---------------------------------------------------------------------------------------------------

    async def place_order(
        self, call: Callable[..., Awaitable[Order]], market: Market, order: OrderRequest, credentials: Credentials
    ) -> Order:
        body = {"order": plain(order)}
        draft = self._draft("place_order", credentials, body, market, order.client_order_id)
        return await self._recorded(call, (market, order, credentials), draft, credentials, order_answer)

    async def place_orders(
        self,
        call: Callable[..., Awaitable[Sequence[Order | Exception]]],
        orders: Sequence[tuple[Market, OrderRequest]],
        credentials: Credentials,
    ) -> Sequence[Order | Exception]:
        """Each order of the batch is a command of its own; all are written in one transaction."""
        size = len(orders)
        drafts = [
            self._draft(
                "place_orders",
                credentials,
                {"order": plain(order), "batch": {"size": size, "place": place}},
                market,
                order.client_order_id,
            )
            for place, (market, order) in enumerate(orders)
        ]
        written = await self._begin(drafts, credentials)
        try:
            answers = await call(orders, credentials)
            if len(answers) != size:
                raise ValueError(f"{len(answers)} answers to {size} orders")
        except BaseException as error:
            await self._end([(one, self._failure(one, error)) for one in written])
            raise
        ends = []
        for one, answer in zip(written, answers, strict=True):
            if isinstance(answer, Exception):
                ends.append((one, self._failure(one, answer)))
            else:
                ends.append((one, self._success(one, order_answer(answer))))
        await self._end(ends)
        return answers

    async def amend_order(
        self,
        call: Callable[..., Awaitable[Order]],
        market: Market,
        ref: OrderRef,
        change: OrderChange,
        credentials: Credentials,
    ) -> Order:
        body = {"ref": plain(ref), "change": plain(change)}
        draft = self._draft("amend_order", credentials, body, market, ref.client_order_id, ref.id)
        return await self._recorded(call, (market, ref, change, credentials), draft, credentials, order_answer)

    async def cancel_order(
        self, call: Callable[..., Awaitable[Order]], market: Market, ref: OrderRef, credentials: Credentials
    ) -> Order:
        draft = self._draft("cancel_order", credentials, {"ref": plain(ref)}, market, ref.client_order_id, ref.id)
        return await self._recorded(call, (market, ref, credentials), draft, credentials, order_answer)

    async def cancel_all_orders(
        self, call: Callable[..., Awaitable[Sequence[Order]]], market: Market | None, credentials: Credentials
    ) -> Sequence[Order]:
        draft = self._draft("cancel_all_orders", credentials, {}, market)
        return await self._recorded(call, (market, credentials), draft, credentials, orders_answer)

    async def set_leverage(
        self, call: Callable[..., Awaitable[None]], market: Market, leverage: Decimal, credentials: Credentials
    ) -> None:
        draft = self._draft("set_leverage", credentials, {"leverage": decimal_text(leverage)}, market)
        await self._recorded(call, (market, leverage, credentials), draft, credentials, no_answer)

    async def set_margin_mode(
        self, call: Callable[..., Awaitable[None]], market: Market, mode: MarginMode, credentials: Credentials
    ) -> None:
        draft = self._draft("set_margin_mode", credentials, {"mode": mode.value}, market)
        await self._recorded(call, (market, mode, credentials), draft, credentials, no_answer)

    async def set_position_mode(
        self, call: Callable[..., Awaitable[None]], hedge: bool, credentials: Credentials
    ) -> None:
        draft = self._draft("set_position_mode", credentials, {"hedge": hedge})
        await self._recorded(call, (hedge, credentials), draft, credentials, no_answer)

    async def keep_alive_orders(
        self, call: Callable[..., Awaitable[None]], market: Market | None, timeout_s: float, credentials: Credentials
    ) -> None:
        draft = self._draft("keep_alive_orders", credentials, {"timeoutS": timeout_s}, market)
        await self._recorded(call, (market, timeout_s, credentials), draft, credentials, no_answer)

    async def order_resolved(
        self, market: Market, client_order_id: str, order: Order | None, credentials: Credentials
    ) -> None:
        body = {"placed": False} if order is None else {"placed": True, "order": plain(order)}
        try:
            await self._resolver.resolved(market, client_order_id, body, credentials)
        except JournalError as error:
            logger.critical("what became of %s %s is not in the journal: %s", market.symbol, client_order_id, error)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _draft(
        self,
        operation: str,
        credentials: Credentials,
        body: Mapping[str, Any],
        market: Market | None = None,
        client_order_id: str | None = None,
        order_id: str | None = None,
    ) -> Draft:
        return Draft(
            time_ns=self._host.clock.wall_ns(),
            kind=Kind.COMMAND.value,
            operation=operation,
            exchange=canonical_exchange(credentials.exchange.upper()) if market is None else market.exchange,
            account=credentials.account,
            key_id=key_id(credentials),
            market=None if market is None else market.symbol,
            client_order_id=client_order_id,
            order_id=order_id,
            body=redacted(body, secrets_of(credentials)),
            durable=True,
        )

    async def _recorded(
        self,
        call: Callable[..., Awaitable[Answer]],
        arguments: tuple[Any, ...],
        draft: Draft,
        credentials: Credentials,
        answered: Callable[[Any], Mapping[str, Any]],
    ) -> Answer:
        """Write the command, send it, write what came of it."""
        (written,) = await self._begin([draft], credentials)
        try:
            answer = await call(*arguments)
        except BaseException as error:
            await self._end([(written, self._failure(written, error))])
            raise
        await self._end([(written, self._success(written, answered(answer)))])
        return answer

    async def _begin(self, drafts: Sequence[Draft], credentials: Credentials) -> Sequence[Written]:
        """Write commands before they are sent. Raises `JournalUnavailable` when that fails."""
        secrets = secrets_of(credentials)
        try:
            seqs: Sequence[int | None] = await self._writer.append(drafts)
        except JournalError as error:
            first = drafts[0]
            if not (self.settings.cancels_without_journal and first.operation.startswith("cancel")):
                raise JournalUnavailable(
                    f"{first.operation} was not sent, because it could not be written down: {error}",
                    exchange=first.exchange,
                    path=self.settings.path,
                ) from error
            logger.critical("%s %s goes on without the journal: %s", first.operation, first.market, error)
            seqs = [None] * len(drafts)
        written = [Written(draft, seq, secrets) for draft, seq in zip(drafts, seqs, strict=True)]
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            body = {"error": "Cancelled", "message": "cancelled before it was sent", "outcome": "NOT_EXECUTED"}
            await self._end([(one, self._followed(one, Kind.ERROR, body, settles=True)) for one in written])
            raise
        return written

    async def _end(self, ends: Sequence[tuple[Written, Draft]]) -> None:
        """Write what came of commands. It has happened whether or not that succeeds: a failure is told, not raised;
        the command stays open in the journal, and the next start resolves it."""
        drafts = [draft for written, draft in ends if written.seq is not None]
        if not drafts:
            return
        try:
            await self._writer.append(drafts)
        except JournalError as error:
            for draft in drafts:
                logger.critical(
                    "the outcome of %s %s (client order id %s) is not in the journal: %s",
                    draft.operation,
                    draft.market,
                    draft.client_order_id,
                    error,
                )

    def _success(self, written: Written, body: Mapping[str, Any]) -> Draft:
        # An order of which even the venue knows nothing is no answer to what became of it.
        unknown = isinstance(body.get("order"), dict) and body["order"]["status"] == OrderStatus.UNKNOWN
        return self._followed(written, Kind.ANSWER, body, settles=not unknown)

    def _failure(self, written: Written, error: BaseException) -> Draft:
        outcome = outcome_of(error)
        body = error_body(error, outcome)
        return self._followed(written, Kind.ERROR, body, settles=outcome is Outcome.NOT_EXECUTED)

    def _followed(self, written: Written, kind: Kind, body: Mapping[str, Any], *, settles: bool) -> Draft:
        order = body.get("order")
        return msgspec.structs.replace(
            written.draft,
            time_ns=self._host.clock.wall_ns(),
            kind=kind.value,
            command=written.seq,
            settles=settles,
            order_id=order.get("id") if isinstance(order, dict) else written.draft.order_id,
            body=redacted(body, written.secrets),
            durable=False,
        )


def plain(model: OrderRequest | OrderChange | OrderRef | Order) -> dict[str, Any]:
    """A model as JSON has it: decimals as text; of a request what is not set is left out."""
    found: dict[str, Any] = model.model_dump(mode="json", exclude_none=not isinstance(model, Order))
    return found


def order_answer(answer: Any) -> Mapping[str, Any]:
    return {"order": plain(answer)} if isinstance(answer, Order) else {}


def orders_answer(answer: Any) -> Mapping[str, Any]:
    return {"orders": [plain(order) for order in answer or ()]}


def no_answer(answer: Any) -> Mapping[str, Any]:
    return {}


def outcome_of(error: BaseException) -> Outcome:
    """What is known of a command that failed with this."""
    if isinstance(error, VenueError):
        return error.outcome
    return Outcome.NOT_EXECUTED if isinstance(error, BadRequest | ConfigError | PluginError) else Outcome.UNKNOWN


def error_body(error: BaseException, outcome: Outcome) -> Mapping[str, Any]:
    """An error as the journal keeps it. Of errors that are none of Astra's only the kind: their texts may hold
    anything."""
    body: dict[str, Any] = {"error": type(error).__name__, "outcome": outcome.value}
    if isinstance(error, AstraError):
        body |= {"problem": error.problem, "message": error.message[:LONGEST_MESSAGE]}
        for name in ("code", "rule", "setting", "retry_after"):
            value = getattr(error, name, None)
            if value is not None:
                body[name] = value
    return body
