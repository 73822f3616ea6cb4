"""Commands to a venue: whether one was carried out is known or said to be unknown, never guessed.

A command whose answer is lost is not repeated. What became of it is asked, in the venue's way, and listened for on the
account's stream where one runs, until one of the two knows or the time is up.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from astra.errors import AstraError, OrderOutcomeUnknown, RateLimited, VenueError
from astra.models.markets import Market
from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest, OrderStatus
from astra.models.protocols import Clock
from astra.net.http import AnswerLost, HttpClient, Request, Response, Sign

logger = logging.getLogger("astra.trading")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
"""Between two questions; the pause doubles from the first to the longest."""

Look = Callable[[], Awaitable[Order | bool]]
"""One question, answered as `resolve_order` does: the order; False, it was not carried out and no longer can be; True,
that cannot be told yet."""


async def send_command(
    client: HttpClient,
    request: Request,
    sign: Sign | None,
    *,
    market: str,
    operation: str,
    client_order_id: str | None = None,
    order_id: str | None = None,
) -> Response:
    """Send a command (place, amend, cancel) and return its answer.

    `market` is the symbol, `operation` the hook's name. Raises what `HttpClient.send` raises for commands that
    certainly were not carried out, and `OrderOutcomeUnknown` when the answer was lost. It is never sent twice.
    """
    try:
        return await client.send(msgspec.structs.replace(request, command=True), sign)
    except AnswerLost as lost:
        message, code = lost.message, lost.code
    raise OrderOutcomeUnknown(
        f"{message}: {operation} in {market} may have been carried out"
        f"{named(client_order_id, order_id)}. Do not repeat it: look first (resolve_order, get_order, list_orders).",
        exchange=client.exchange,
        market=market,
        operation=operation,
        client_order_id=client_order_id,
        order_id=order_id,
        code=code,
    )


def named(client_order_id: str | None, order_id: str | None) -> str:
    """ " (order ...)", as errors name the order that is meant."""
    if client_order_id is not None:
        return f" (client order id {client_order_id})"
    return "" if order_id is None else f" (order {order_id})"


class Evidence:
    """What a running account stream tells of one order while the outcome of a command is open: a consumer of the
    stream that waits for an order which proves what became of the command."""

    symbol = ""

    def __init__(self, proves: Callable[[Order], bool]) -> None:
        self.order: Order | None = None
        """The latest order that proves it."""
        self.told = anyio.Event()
        self._proves = proves

    def put(self, item: object) -> None:
        if isinstance(item, Order) and self._proves(item):
            self.order = item
            self.told.set()

    def ended(self, error: Exception) -> None:
        """The stream is over: it proves nothing more."""


class Finding(msgspec.Struct, frozen=True):
    """What is known of a command. `carried_out` None: nothing yet; `error` is what the last question failed with."""

    order: Order | None
    carried_out: bool | None
    error: Exception | None = None


async def find_out(
    look: Look, evidence: Evidence, clock: Clock, timeout_s: float, conclusive_s: float | None = None
) -> Finding:
    """Ask with `look` again and again, and listen for `evidence`, until either knows or `timeout_s` are over.

    `conclusive_s`: from then on a question decides (the command can no longer arrive): one is asked at that moment.
    """
    began = clock.monotonic()
    deadline = began + timeout_s
    pause_s = FIRST_PAUSE_S
    error: Exception | None = None
    while True:
        answer, error = await _look(look, evidence, deadline - clock.monotonic())
        if evidence.order is not None:
            return Finding(evidence.order, True)
        if isinstance(answer, Order):
            return Finding(answer, True)
        if answer is False:
            return Finding(None, False)
        now = clock.monotonic()
        wait_s = pause_s
        if conclusive_s is not None and now < began + conclusive_s < now + 1.5 * wait_s:
            wait_s = began + conclusive_s - now
        if isinstance(error, RateLimited):
            wait_s = max(wait_s, error.retry_after or 0.0)
        left_s = deadline - now
        if await clock.wait(evidence.told, min(wait_s, left_s)):
            return Finding(evidence.order, True)
        if wait_s >= left_s:
            return Finding(None, None, error)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def _look(look: Look, evidence: Evidence, timeout_s: float) -> tuple[Order | bool, Exception | None]:
    """One question, given up as soon as the evidence is there or the time is over. A failed one knows nothing."""
    answer: Order | bool = True
    failure: Exception | None = None

    async def ask() -> None:
        nonlocal answer, failure
        try:
            answer = await look()
        except VenueError as error:
            failure = error
        except Exception as error:
            logger.exception("a lost command could not be looked up")
            failure = error
        tasks.cancel_scope.cancel()

    with anyio.move_on_after(max(timeout_s, 0.0)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await evidence.told.wait()
            tasks.cancel_scope.cancel()
    return answer, failure


def proves_placement(market: Market, order: OrderRequest, earliest_ms: int) -> Callable[[Order], bool]:
    """Does an order that the venue tells of prove that `order`, sent at `earliest_ms` or later, was placed?"""

    def proves(told: Order) -> bool:
        return (
            told.client_order_id == order.client_order_id
            and told.market == market.symbol
            and told.status is not OrderStatus.UNKNOWN
            and may_be(order, told, earliest_ms)
        )

    return proves


def may_be(order: OrderRequest, told: Order, earliest_ms: int) -> bool:
    """May what the venue has under the id of `order` be `order`, sent at `earliest_ms` or later?

    At most venues a client order id may be used again once its order is done: one that differs, or is older, is not
    the one meant.
    """
    return (
        told.side is order.side
        and (told.price is None or order.price is None or told.price == order.price)
        and (told.contracts is None or order.contracts is None or told.contracts == order.contracts)
        and (told.created_time is None or told.created_time > earliest_ms - CLOCKS_APART_MS)
    )


CLOCKS_APART_MS = 60_000
"""The machine's clock and a venue's are not further apart than this, where ages are compared roughly."""


def proves_change(market: Market, ref: OrderRef, change: OrderChange | None) -> Callable[[Order], bool]:
    """Does what the venue tells of the order settle a lost amendment (None: a lost cancel)? A final state does, and
    for an amendment the order as it was to become.

    A cancel proves nothing of an amendment: where venues amend by cancelling and placing anew it is how the old id
    ends, and what the order has become is to be asked for.
    """

    def proves(told: Order) -> bool:
        if told.market != market.symbol:
            return False
        if change is not None and told.status is OrderStatus.CANCELED:
            return False
        same = told.id == ref.id if ref.id is not None else told.client_order_id == ref.client_order_id
        return same and is_settled(told, change)

    return proves


def is_settled(order: Order, change: OrderChange | None) -> bool:
    """Is the order done, or as `change` was to make it?"""
    if order.status.is_final:
        return True
    if change is None:
        return False
    wanted = ((change.price, order.price), (change.quantity, order.quantity), (change.contracts, order.contracts))
    return all(new is None or new == now for new, now in wanted)


def still_unknown(lost: OrderOutcomeUnknown, finding: Finding, timeout_s: float) -> OrderOutcomeUnknown:
    """The error of a command whose outcome could not be found out in time."""
    because = f" (the last question failed: {finding.error})" if isinstance(finding.error, AstraError) else ""
    error = OrderOutcomeUnknown(
        f"{lost.message} Looking for it for {timeout_s:g} s did not tell{because}.",
        exchange=lost.exchange,
        market=lost.market,
        operation=lost.operation,
        client_order_id=lost.client_order_id,
        order_id=lost.order_id,
        code=lost.code,
    )
    error.__cause__ = finding.error or lost.__cause__
    return error
