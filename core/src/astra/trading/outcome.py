"""Commands to a venue: whether one was carried out is known or said to be unknown, never guessed."""

from __future__ import annotations

import msgspec

from astra.errors import OrderOutcomeUnknown
from astra.net.http import AnswerLost, HttpClient, Request, Response, Sign


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
        f"{_named(client_order_id, order_id)}. Do not repeat it: look first (resolve_order, get_order, list_orders).",
        exchange=client.exchange,
        market=market,
        operation=operation,
        client_order_id=client_order_id,
        order_id=order_id,
        code=code,
    )


def _named(client_order_id: str | None, order_id: str | None) -> str:
    if client_order_id is not None:
        return f" (client order id {client_order_id})"
    return "" if order_id is None else f" (order {order_id})"
