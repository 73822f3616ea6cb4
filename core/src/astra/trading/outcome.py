"""Commands to a venue: whether they were carried out must never be guessed."""

from __future__ import annotations

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
    """Send a place, amend or cancel; a lost answer is raised as `OrderOutcomeUnknown`."""
    raise NotImplementedError
