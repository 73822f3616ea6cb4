"""`/livez` and `/readyz`: is the process alive, can it serve, and how each venue stands."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from astra_gateway import openapi
from astra_gateway.context import GatewayContext
from astra_gateway.venues import VenueStatus, venue_statuses

_STATE: dict[str, Any] = {
    "type": "object",
    "required": ["status", "venues"],
    "properties": {
        "status": {"type": "string", "enum": ["ready", "not-ready"]},
        "venues": {
            "type": "object",
            "description": "Installed venues by exchange code. A venue is loaded when it is first used.",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "loaded": {"type": "boolean"},
                    "markets": {"type": "integer", "description": "Markets known; 0 before the list was loaded."},
                    "marketsAge": {"type": ["number", "null"], "description": "Seconds since the list was loaded."},
                    "error": {"type": "string", "description": "Code of the error that kept the list from loading."},
                    "books": {
                        "type": "object",
                        "description": "Running order books by state.",
                        "additionalProperties": {"type": "integer"},
                    },
                },
            },
        },
    },
}


def add_routes(router: APIRouter, context: GatewayContext) -> None:
    """Add both probes. They need no key and say nothing that would need one."""

    async def livez(request: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def readyz(request: Request) -> Response:
        statuses = venue_statuses(context.astra)
        in_use = [status for status in statuses if status.loaded]
        ready = not in_use or any(status.markets for status in in_use)
        venues = {status.exchange: _described(status) for status in statuses}
        fields = {"status": "ready" if ready else "not-ready", "venues": venues}
        return Response(msgspec.json.encode(fields), 200 if ready else 503, media_type="application/json")

    router.add_api_route(
        "/livez",
        livez,
        methods=["GET"],
        summary="Is the process alive?",
        response_model=None,
        responses=openapi.answers(
            {"type": "object", "properties": {"status": {"type": "string", "enum": ["alive"]}}}, "It is.", ()
        ),
    )
    router.add_api_route(
        "/readyz",
        readyz,
        methods=["GET"],
        summary="Can the gateway serve, and how does each venue stand?",
        description="Answers 503 while venues are in use and none of them could load its markets.",
        response_model=None,
        responses=openapi.answers(_STATE, "It can.", ()) | {503: {"description": "It cannot (same body)."}},
    )


def _described(status: VenueStatus) -> dict[str, Any]:
    fields: dict[str, Any] = {"loaded": status.loaded}
    if status.loaded:
        age = status.markets_age_s
        fields |= {"markets": status.markets, "marketsAge": None if age is None else round(age, 3)}
        if status.error is not None:
            fields["error"] = status.error
        fields["books"] = status.books
    return fields
