"""A venue's orders as they leave: each under an id of its own, each with an outcome that is known or said not to be.

This is the innermost layer of the operations that concern orders: what middleware and callers see of a command is what
became of it, not what became of its answer.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import anyio

from astra.errors import (
    AstraError,
    OrderNotFound,
    OrderOutcomeUnknown,
    Outcome,
    VenueError,
    VenueUnavailable,
)
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest, OrderStatus
from astra.models.protocols import Clock
from astra.trading.cancel_all import LostCancelAll, unknown
from astra.trading.checks import ClientIdRule, ClientIdsUnique, check_order
from astra.trading.outcome import (
    Evidence,
    Finding,
    find_out,
    is_settled,
    named,
    proves_change,
    still_unknown,
)
from astra.trading.sent import SentOrder, SentOrders

logger = logging.getLogger("astra.trading")

LOOK_BACK_MS = 24 * 3600 * 1000
"""A placement of another process that is asked for without a time left at most so long ago."""

Hooks = Mapping[str, Callable[..., Awaitable[Any]]]
"""The venue's hooks, those that it has, without middleware; positional arguments in the order of the hook specs."""


class AccountWatch(Protocol):
    """The venue's side of what runs beside the orders; a venue without account streams need not have it."""

    def evidence(self, account: Credentials, evidence: Evidence) -> contextlib.AbstractContextManager[None]:
        """Hand `evidence` to the account's stream, where one runs."""
        ...

    def order_of(self, account: Credentials, market: str, client_order_id: str) -> Order | None:
        """An order as the account's stream, where one runs, knows it."""
        ...

    def traded(self, account: Credentials, market: Market) -> None:
        """An order is about to be placed: the account's fills in the market are of interest from now on."""
        ...


class Commands:
    """The orders of one venue.

    `id_rule` is the client order id rule of a market (None: the venue states none). `lifetime_s` says of a market and
    an operation for how long after it was sent such a command may still reach the venue (None: the venue names no such
    time). `markets` gives the venue's markets (None: they are not known): a command to the whole venue may arrive in
    any. What became of a command whose answer is lost is looked for `resolve_s` seconds (0: not at all).
    """

    def __init__(
        self,
        exchange: str,
        hooks: Hooks,
        clock: Clock,
        *,
        watch: AccountWatch | None,
        id_rule: Callable[[Market], ClientIdRule | None],
        lifetime_s: Callable[[Market, str], float | None],
        resolve_s: float,
        markets: Callable[[], Awaitable[Sequence[Market]]] | None = None,
    ) -> None:
        self.sent = SentOrders()
        self._exchange = exchange
        self._hooks = hooks
        self._clock = clock
        self._watch = watch
        self._id_rule = id_rule
        self._lifetime_s = lifetime_s
        self._resolve_s = resolve_s
        self._markets = markets

    def told(self, account: Credentials, answer: Any) -> None:
        """The venue answered a question: orders in the answer that are done free their ids."""
        for one in answer if isinstance(answer, list | tuple) else (answer,):
            if isinstance(one, Order):
                self.sent.told(account, one)

    # -- placing ------------------------------------------------------------------------------------------------

    async def place(self, market: Market, order: OrderRequest, account: Credentials) -> Order:
        """Place an order. A lost answer is resolved: the order, or the error that says what is known."""
        sent = self._begin(market, order, account)
        with self._listening(account, _proves(order, sent)) as evidence:
            try:
                sent.in_flight = True
                placed: Order = await self._hooks["place_order"](market, order, account)
            except OrderOutcomeUnknown as error:
                lost = error
            except AstraError as error:
                sent.alive = _may_be_alive(error)
                raise
            except Exception as error:  # noqa: BLE001 - logged, and the outcome is unknown
                lost = self._failed("place_order", market, order, error)
            else:
                sent.became(placed)
                return placed
            finally:
                self._ended(sent)
            return await self._placed(lost, market, order, account, sent, evidence)

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], account: Credentials
    ) -> Sequence[Order | Exception]:
        """Each order's own refusal stands in its place; those that keep their market's rules are sent. Lost answers
        are resolved order by order."""
        results: dict[int, Order | Exception] = {}
        sound: dict[int, tuple[Market, OrderRequest]] = {}
        sent: dict[int, SentOrder] = {}
        for place, (market, order) in enumerate(orders):
            try:
                check_order(market, order)
                sent[place] = self._begin(market, order, account)
            except AstraError as error:
                results[place] = error
            else:
                sound[place] = (market, order)
        if not sound:
            return list(results.values())
        with contextlib.ExitStack() as stack:
            evidence = {
                place: stack.enter_context(self._listening(account, _proves(order, sent[place])))
                for place, (_, order) in sound.items()
            }
            answers = await self._batch(list(sound.values()), list(sent.values()), account)
            results |= zip(sound, answers, strict=True)

            async def resolve(place: int, lost: OrderOutcomeUnknown) -> None:
                market, order = sound[place]
                try:
                    results[place] = await self._placed(lost, market, order, account, sent[place], evidence[place])
                except AstraError as error:
                    results[place] = error

            async with anyio.create_task_group() as tasks:
                for place, answer in list(results.items()):
                    if isinstance(answer, OrderOutcomeUnknown):
                        tasks.start_soon(resolve, place, answer)
        return [results[place] for place in sorted(results)]

    async def _batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], sent: Sequence[SentOrder], account: Credentials
    ) -> Sequence[Order | Exception]:
        """The venue's answers to a batch, one for each order."""
        try:
            for one in sent:
                one.in_flight = True
            answers: Sequence[Order | Exception] = await self._hooks["place_orders"](orders, account)
            if len(answers) != len(orders):
                raise ValueError(f"{len(answers)} answers to {len(orders)} orders")
            answers = [
                self._unless_failed("place_orders", market, order, answer)
                for (market, order), answer in zip(orders, answers, strict=True)
            ]
        except OrderOutcomeUnknown as lost:
            answers = [self._each(lost, market, order) for market, order in orders]
        except AstraError as error:
            for one in sent:
                one.alive = _may_be_alive(error)
            raise
        except Exception as error:  # noqa: BLE001 - logged, and the outcomes are unknown
            answers = [self._failed("place_orders", market, order, error) for market, order in orders]
        finally:
            for one in sent:
                self._ended(one)
        for one, answer in zip(sent, answers, strict=True):
            if isinstance(answer, Order):
                one.became(answer)
            else:
                one.alive = _may_be_alive(answer)
        return answers

    def _begin(self, market: Market, order: OrderRequest, account: Credentials) -> SentOrder:
        """Note a placement that is about to leave. Raises `DuplicateClientOrderId` for an id that may be in use."""
        assert order.client_order_id is not None, "the order was not prepared"
        earlier = self.sent.find(account, order.client_order_id)
        known: Order | None = None
        if self._watch is not None:
            if earlier is not None and earlier.alive:
                self.told(account, self._watch.order_of(account, earlier.market, order.client_order_id))
            known = self._watch.order_of(account, market.symbol, order.client_order_id)
        sent = self.sent.begin(market, order, account, self._now_ms(), known)
        if self._watch is not None:
            self._watch.traded(account, market)
        return sent

    def _ended(self, sent: SentOrder) -> None:
        """The call that places the order has ended: by now its request has left, if it ever does."""
        sent.latest = self._now_ms()
        sent.in_flight = False

    # -- resolving placements -----------------------------------------------------------------------------------

    async def _placed(
        self,
        lost: OrderOutcomeUnknown,
        market: Market,
        order: OrderRequest,
        account: Credentials,
        sent: SentOrder,
        evidence: Evidence,
    ) -> Order:
        """What became of a placement whose answer is lost. Raises `VenueUnavailable` when it certainly was not placed,
        `OrderOutcomeUnknown` when that could not be found out in time."""
        if not self._resolve_s:
            raise lost
        assert order.client_order_id is not None
        moments = _moments(sent.earliest, sent.latest)
        rule = self._id_rule(market)
        unique = rule is not None and rule.unique is ClientIdsUnique.FOREVER
        hook = self._hooks.get("resolve_order")

        async def ours(*args: Any) -> Order | bool:
            assert hook is not None
            answer: Order | bool = await hook(*args)
            # An order that is not the one meant says nothing of the one that is.
            other = isinstance(answer, Order) and not unique and not sent.may_be(answer)
            return True if other else answer

        async def look() -> Order | bool:
            return True if hook is None else await _asked(ours, market, order.client_order_id, moments, account)

        lifetime_s = self._lifetime_s(market, "place_order")
        finding = await find_out(look, evidence, self._clock, self._resolve_s, lifetime_s)
        if finding.order is not None:
            sent.became(finding.order)
            return finding.order
        if finding.carried_out is None:
            raise still_unknown(lost, finding, self._resolve_s)
        sent.alive = False
        raise VenueUnavailable(
            f"{market.symbol}: the order {order.client_order_id} was not placed, its request got lost on the way: it "
            f"may be placed again ({lost.message})",
            exchange=self._exchange,
            code=lost.code,
        ) from lost

    async def resolve(
        self,
        ask: Callable[..., Awaitable[Any]],
        market: Market,
        client_order_id: str,
        since: int | None,
        account: Credentials,
        timeout_s: float,
        *,
        until: int | None = None,
    ) -> Order | None:
        """What became of a placement, asked with `ask` (the hook `resolve_order`): the order, or None if it certainly
        was not placed.

        `since` is when it was sent (ms), or the earliest of such moments and `until` the latest; placements of this
        object are remembered. Raises `OrderOutcomeUnknown` when that cannot be told within `timeout_s`.
        """
        now = self._now_ms()
        sent: SentOrder | None = None

        def other(told: Order) -> bool:
            """An order that was known under the id before the placement says nothing of it."""
            return sent is not None and told.id in sent.others

        def proves(told: Order) -> bool:
            return told.client_order_id == client_order_id and told.market == market.symbol and not other(told)

        def remembered() -> SentOrder | None:
            found = self.sent.find(account, client_order_id)
            return found if found is not None and found.market == market.symbol else None

        async def look() -> Order | bool:
            nonlocal sent
            sent = remembered()
            moments = [moment for moment in (since, until) if moment is not None]
            if sent is not None:
                moments += [sent.earliest, sent.latest]
            elif since is None:
                moments += [now - LOOK_BACK_MS, now]
            # A placement that has not ended may leave after the question; one that the venue accepted was placed.
            undecided = sent is not None and (sent.in_flight or sent.id is not None)
            answer = await _asked(ask, market, client_order_id, _moments(min(moments), max(moments)), account)
            if isinstance(answer, Order):
                return True if other(answer) else answer
            return answer or undecided or remembered() is not sent

        sent = remembered()
        with self._listening(account, proves) as evidence:
            lifetime_s = self._lifetime_s(market, "place_order")
            finding = await find_out(look, evidence, self._clock, timeout_s, lifetime_s)
        if finding.order is not None:
            self.sent.told(account, finding.order)
            return finding.order
        if finding.carried_out is False:
            if sent is not None:
                sent.alive = False
            return None
        raise OrderOutcomeUnknown(
            f"whether {client_order_id} was placed could not be told within {timeout_s:g} s: ask again",
            exchange=self._exchange,
            market=market.symbol,
            client_order_id=client_order_id,
        ) from finding.error

    # -- cancelling and amending --------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, account: Credentials) -> Order:
        """Cancel an order. After a lost answer the order is looked at until it shows what became of the cancel."""
        send = self._hooks["cancel_order"]
        return await self._change("cancel_order", lambda: send(market, ref, account), market, ref, None, account)

    async def cancel_batch(
        self, refs: Sequence[tuple[Market, OrderRef]], account: Credentials
    ) -> Sequence[Order | Exception]:
        """Cancel several orders in one request; each position holds its order or its error. After a lost answer each
        order is looked at until it shows what became of its cancel."""
        with contextlib.ExitStack() as stack:
            evidence = [
                stack.enter_context(self._listening(account, proves_change(market, ref, None))) for market, ref in refs
            ]
            try:
                results: list[Order | Exception] = list(await self._hooks["cancel_orders"](refs, account))
                if len(results) != len(refs):
                    raise ValueError(f"{len(results)} answers to {len(refs)} cancels")
                results = [
                    self._unless_failed("cancel_orders", market, ref, answer)
                    for (market, ref), answer in zip(refs, results, strict=True)
                ]
            except OrderOutcomeUnknown as lost:
                results = [self._each(lost, market, ref) for market, ref in refs]
            except AstraError:
                raise
            except Exception as error:  # noqa: BLE001 - logged, and the outcomes are unknown
                results = [self._failed("cancel_orders", market, ref, error) for market, ref in refs]
            self.told(account, results)

            async def settle(place: int, lost: OrderOutcomeUnknown) -> None:
                market, ref = refs[place]
                try:
                    results[place] = await self._settled(
                        "cancel_orders", lost, market, ref, None, account, evidence[place]
                    )
                except AstraError as error:
                    results[place] = error

            async with anyio.create_task_group() as tasks:
                for place, answer in enumerate(tuple(results)):
                    if isinstance(answer, OrderOutcomeUnknown):
                        tasks.start_soon(settle, place, answer)
        return results

    async def cancel_all(self, market: Market | None, account: Credentials) -> Sequence[Order]:
        """Cancel all orders of a market, or (None) of the venue. After a lost answer the open orders are looked at
        until they show what became of it."""
        earliest = self._now_ms()
        try:
            answer: Sequence[Order] = await self._hooks["cancel_all_orders"](market, account)
        except OrderOutcomeUnknown as error:
            lost = error
        except AstraError:
            raise
        except Exception as error:
            logger.error("%s: cancel_all_orders failed in the plugin", self._exchange, exc_info=error)
            lost = unknown(self._exchange, market, error)
        else:
            self.told(account, answer)
            return answer
        if not self._resolve_s:
            raise lost
        latest, began = self._now_ms(), self._clock.monotonic()
        lifetime_s = await self._lifetime_of_cancel_all(market)
        search = LostCancelAll(
            self._hooks,
            self._clock,
            self.sent,
            market,
            account,
            earliest=earliest,
            latest=latest,
            lifetime_s=lifetime_s,
        )
        return await search.outcome(lost, max(0.0, began + self._resolve_s - self._clock.monotonic()))

    async def _lifetime_of_cancel_all(self, market: Market | None) -> float | None:
        """For how long a "cancel all" may arrive: that of the venue (`market` None), for as long as in the slowest of
        its products. None where one has no such time, or where it is not known which there are."""
        if market is not None:
            return self._lifetime_s(market, "cancel_all_orders")
        if self._markets is None:
            return None
        markets: Sequence[Market] = ()
        with anyio.move_on_after(self._resolve_s):
            try:
                markets = await self._markets()
            except Exception as error:  # the outcome has to be told whatever this fails with
                said = "%s: for how long a lost cancel_all_orders may arrive is not known"
                logger.warning(said, self._exchange, exc_info=error)
        products = {one.product: one for one in markets}
        lifetimes = [self._lifetime_s(one, "cancel_all_orders") for one in products.values()]
        known = [lifetime_s for lifetime_s in lifetimes if lifetime_s is not None]
        return max(known) if known and len(known) == len(lifetimes) else None

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, account: Credentials) -> Order:
        """Amend an order. After a lost answer the order is looked at until it shows what became of the change."""
        send = self._hooks["amend_order"]
        return await self._change(
            "amend_order", lambda: send(market, ref, change, account), market, ref, change, account
        )

    async def _change(
        self,
        operation: str,
        send: Callable[[], Awaitable[Order]],
        market: Market,
        ref: OrderRef,
        change: OrderChange | None,
        account: Credentials,
    ) -> Order:
        with self._listening(account, proves_change(market, ref, change)) as evidence:
            try:
                answer = await send()
            except OrderOutcomeUnknown as error:
                lost = error
            except AstraError:
                raise
            except Exception as error:  # noqa: BLE001 - logged, and the outcome is unknown
                lost = self._failed(operation, market, ref, error)
            else:
                self._told_of(ref, change, answer, account)
                return answer
            return await self._settled(operation, lost, market, ref, change, account, evidence)

    async def _settled(
        self,
        operation: str,
        lost: OrderOutcomeUnknown,
        market: Market,
        ref: OrderRef,
        change: OrderChange | None,
        account: Credentials,
        evidence: Evidence,
    ) -> Order:
        """What became of a cancel or amendment whose answer is lost. Raises `VenueUnavailable` when it certainly was
        not carried out, `OrderOutcomeUnknown` when that could not be found out in time."""
        if not self._resolve_s:
            raise lost
        finding = await self._look_at(operation, market, ref, change, account, evidence, lost.order_id or ref.id)
        if finding.order is not None:
            self._told_of(ref, change, finding.order, account)
            return finding.order
        if finding.carried_out is None:
            raise still_unknown(lost, finding, self._resolve_s)
        raise VenueUnavailable(
            f"{market.symbol}: {operation}{named(ref.client_order_id, ref.id)} was not carried out, its request got "
            f"lost on the way: the order is open, as it was ({lost.message})",
            exchange=self._exchange,
            code=lost.code,
        ) from lost

    def _told_of(self, ref: OrderRef, change: OrderChange | None, order: Order, account: Credentials) -> None:
        """What became of a cancel (`change` None) or amendment is known."""
        if change is None:
            self.sent.told(account, order)
        else:
            self.sent.amended(account, ref, order)

    async def _look_at(
        self,
        operation: str,
        market: Market,
        ref: OrderRef,
        change: OrderChange | None,
        account: Credentials,
        evidence: Evidence,
        was: str | None,
    ) -> Finding:
        """What became of a lost cancel (`change` None) or amendment of an order whose id `was` this.

        An open order that has another id now was amended, where amending makes a new one of what is left. An order that
        is still as it was proves nothing before the request can no longer arrive; where the venue names no such time it
        never does.
        """
        lifetime_s = self._lifetime_s(market, operation)
        dead_at = None if lifetime_s is None else self._clock.monotonic() + lifetime_s
        ask = self._hooks.get("get_order")

        async def look() -> Order | bool:
            if ask is None:
                return True
            began = self._clock.monotonic()
            try:
                order: Order = await ask(market, ref, account)
            except OrderNotFound:
                return True
            if is_settled(order, change):
                return order
            if change is not None and order.status.is_open and order.id and was not in (None, order.id):
                return order
            return not (order.status.is_open and dead_at is not None and began >= dead_at)

        return await find_out(look, evidence, self._clock, self._resolve_s, lifetime_s)

    # -- tools --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _listening(self, account: Credentials, proves: Callable[[Order], bool]) -> Iterator[Evidence]:
        """What the account's stream, where one runs, tells from now on."""
        evidence = Evidence(proves)
        with contextlib.nullcontext() if self._watch is None else self._watch.evidence(account, evidence):
            yield evidence

    def _each(self, lost: OrderOutcomeUnknown, market: Market, order: OrderRequest | OrderRef) -> OrderOutcomeUnknown:
        """What a batch whose answer is lost means for one of its orders."""
        return OrderOutcomeUnknown(
            lost.message,
            exchange=self._exchange,
            market=market.symbol,
            operation=lost.operation,
            client_order_id=order.client_order_id,
            order_id=order.id if isinstance(order, OrderRef) else None,
            code=lost.code,
        )

    def _unless_failed(
        self, operation: str, market: Market, order: OrderRequest | OrderRef, answer: Order | Exception
    ) -> Order | Exception:
        """The answer to one order of a batch, a bug that stands there as what it means."""
        if isinstance(answer, Order | AstraError):
            return answer
        return self._failed(operation, market, order, answer)

    def _failed(
        self, operation: str, market: Market, order: OrderRequest | OrderRef, error: Exception
    ) -> OrderOutcomeUnknown:
        """A bug on our side of the wire says nothing about the other: the command may have been carried out."""
        logger.error("%s: %s failed in the plugin", self._exchange, operation, exc_info=error)
        unknown = OrderOutcomeUnknown(
            f"{operation} in {market.symbol} failed in the plugin ({type(error).__name__}): its outcome is not known.",
            exchange=self._exchange,
            market=market.symbol,
            operation=operation,
            client_order_id=order.client_order_id,
            order_id=order.id if isinstance(order, OrderRef) else None,
        )
        unknown.__cause__ = error
        return unknown

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // 1_000_000


def _moments(earliest: int, latest: int) -> Sequence[int]:
    """When a placement may have left, the latest first: only when it is certain that a request which was sent then can
    no longer arrive, a search from the earliest on is conclusive."""
    return list(dict.fromkeys((latest, earliest)))


async def _asked(
    ask: Callable[..., Awaitable[Order | bool]],
    market: Market,
    client_order_id: str | None,
    moments: Sequence[int],
    account: Credentials,
) -> Order | bool:
    """Ask with `ask` (the hook `resolve_order`) for a placement that left at one of `moments`."""
    undecided = False
    for moment in moments:
        answer = await ask(market, client_order_id, moment, account)
        if isinstance(answer, Order):
            return answer
        undecided |= answer is not False
    return undecided


def _proves(order: OrderRequest, sent: SentOrder) -> Callable[[Order], bool]:
    """Does an order that the venue tells of prove that the placement was carried out?"""

    def proves(told: Order) -> bool:
        return (
            told.client_order_id == order.client_order_id
            and told.status is not OrderStatus.UNKNOWN
            and sent.may_be(told)
        )

    return proves


def _may_be_alive(error: Exception) -> bool:
    """May there be an order after a placement failed with this?"""
    return not isinstance(error, AstraError) or (isinstance(error, VenueError) and error.outcome is Outcome.UNKNOWN)
