"""The private routes: orders, fills, balances, positions."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import anyio
import msgspec
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from astra.directory import canonical_exchange
from astra.errors import BadRequest, OrderOutcomeUnknown
from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.orders import Fill, Order, OrderChange, OrderRequest
from astra.routing import ANY_CLIENT_ID
from astra.symbols import Symbol
from astra.trading.checks import ClientIdRule
from astra_gateway import openapi
from astra_gateway.context import GatewayContext, require
from astra_gateway.keys import Scope
from astra_gateway.problems import MEDIA_TYPE
from astra_gateway.query import Numbers, Query, numbers_of, read_query
from astra_rest import bodies, exchange_keys, idempotency, wire
from astra_rest.exchange_keys import account_of, identity_of
from astra_rest.idempotency import Placement, Placements

_NUMBERS = Field(default=None, description="`string`: numbers as exact text. Default: JSON numbers.")
_MARKET = Field(description="Market symbol, such as BINANCE-SPOT-BTC-USDT.", max_length=200)
_ID = Field(default=None, description="The venue's order id.", min_length=1, max_length=200)
_CLIENT_ID = Field(default=None, description="The client order id.", min_length=1, max_length=200)

Account = Credentials | str | None


class OrdersQuery(Query):
    market: str = _MARKET
    id: str | None = _ID
    client_order_id: str | None = _CLIENT_ID
    numbers: Numbers | None = _NUMBERS


class FillsQuery(Query):
    market: str = _MARKET
    since: int | None = Field(default=None, ge=0, description="Only fills from this time on, in ms.")
    limit: int | None = Field(default=None, ge=1, le=10_000, description="At most so many fills.")
    numbers: Numbers | None = _NUMBERS


class ExchangeQuery(Query):
    exchange: str = Field(description="Exchange code, such as BINANCE.", min_length=1, max_length=40)
    numbers: Numbers | None = _NUMBERS


class CommandQuery(Query):
    numbers: Numbers | None = _NUMBERS


class CancelQuery(Query):
    market: str = _MARKET
    id: str | None = _ID
    client_order_id: str | None = _CLIENT_ID
    all: Literal["true"] | None = Field(default=None, description="Cancel all open orders of the market.")
    numbers: Numbers | None = _NUMBERS


class Trading:
    """The private routes of one gateway."""

    def __init__(self, context: GatewayContext) -> None:
        self._astra = context.astra
        self._placements = Placements(context.database, context.clock, keep_s=context.settings.idempotency_ttl_s)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def orders(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(OrdersQuery, request)
        numbers = numbers_of(request, query.numbers)
        market, account = _meant(request, query.market)
        if query.id is None and query.client_order_id is None:
            orders = await self._astra.list_orders(market, account)
        else:
            ref = {"id": query.id, "client_order_id": query.client_order_id}
            orders = [await self._astra.get_order(market, **ref, credentials=account)]
        return Response(wire.encoded(orders, numbers), media_type=wire.JSON)

    async def fills(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(FillsQuery, request)
        numbers = numbers_of(request, query.numbers)
        market, account = _meant(request, query.market)
        fills = await self._astra.list_fills(market, query.since, query.limit, account)
        return Response(wire.encoded(fills, numbers), media_type=wire.JSON)

    async def balances(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(ExchangeQuery, request)
        numbers = numbers_of(request, query.numbers)
        exchange = canonical_exchange(query.exchange.upper())
        balances = await self._astra.get_balances(exchange, account_of(request, exchange))
        return Response(wire.encoded(balances, numbers), media_type=wire.JSON)

    async def positions(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(ExchangeQuery, request)
        numbers = numbers_of(request, query.numbers)
        exchange = canonical_exchange(query.exchange.upper())
        positions = await self._astra.get_positions(exchange, account_of(request, exchange))
        return Response(wire.encoded(positions, numbers), media_type=wire.JSON)

    # -- commands ---------------------------------------------------------------------------------------------------

    async def place(self, request: Request) -> Response:
        caller = require(request, Scope.TRADE)
        query = read_query(CommandQuery, request)
        numbers = numbers_of(request, query.numbers)
        fields = await bodies.read_object(request)
        market, account = _meant(request, bodies.take_text(fields, "market"))
        order = bodies.validated(OrderRequest, fields)
        key = request.headers.get(idempotency.HEADER)
        if key is None:
            placed = await self._astra.place_order(market, order, account)
            return _one(placed, numbers)
        placement_id = idempotency.placement_id(caller.id, key)
        return await self._place_once(placement_id, market, order, account, numbers)

    async def _place_once(
        self, placement_id: bytes, market: str, order: OrderRequest, account: Account, numbers: Numbers
    ) -> Response:
        wanted = Placement(
            id=placement_id,
            fingerprint=_fingerprint(market, order, account),
            client_order_id=order.client_order_id or await self._derived_id(market, placement_id),
            created_ms=0,
            latest_ms=0,
            claims=0,
        )

        async def place(placement: Placement) -> Order:
            prepared = order.model_copy(update={"client_order_id": placement.client_order_id})
            with anyio.move_on_after(idempotency.SEND_S):
                return await self._astra.place_order(market, prepared, account)
            raise OrderOutcomeUnknown(
                f"the order was not answered within {idempotency.SEND_S:g} s; repeat the request with the same "
                "Idempotency-Key to learn what became of it",
                exchange=Symbol.parse(market).exchange,
                market=market,
                client_order_id=placement.client_order_id,
            )

        async def resolve(placement: Placement) -> Order | None:
            return await self._astra.resolve_order(
                market,
                placement.client_order_id,
                placement.created_ms,
                account,
                until=placement.latest_ms,
                timeout_s=idempotency.RESOLVE_S,
            )

        answer = await self._placements.answer(wanted, place, resolve)
        headers = {"idempotency-replayed": "true"} if answer.repeated else {}
        if answer.status != 200:
            return Response(answer.body, answer.status, headers, MEDIA_TYPE)
        return _one(Order.model_validate_json(answer.body), numbers, headers)

    async def _derived_id(self, market: str, placement_id: bytes) -> str:
        described = await self._astra.market(market)
        venue = await self._astra.venue(described.exchange)
        rule_of = getattr(venue, "client_id_rule", None)
        rule: ClientIdRule = (rule_of(described) if rule_of is not None else None) or ANY_CLIENT_ID
        return idempotency.client_order_id(rule, placement_id)

    async def change(self, request: Request) -> Response:
        require(request, Scope.TRADE)
        query = read_query(CommandQuery, request)
        numbers = numbers_of(request, query.numbers)
        fields = await bodies.read_object(request)
        market, account = _meant(request, bodies.take_text(fields, "market"))
        order_id = bodies.take_optional_text(fields, "id")
        client_order_id = bodies.take_optional_text(fields, "clientOrderId")
        change = bodies.validated(OrderChange, fields)
        changed = await self._astra.amend_order(
            market, change, id=order_id, client_order_id=client_order_id, credentials=account
        )
        return _one(changed, numbers)

    async def cancel(self, request: Request) -> Response:
        require(request, Scope.TRADE)
        query = read_query(CancelQuery, request)
        numbers = numbers_of(request, query.numbers)
        market, account = _meant(request, query.market)
        if sum(given is not None for given in (query.id, query.client_order_id, query.all)) != 1:
            raise BadRequest("say what to cancel: exactly one of id, clientOrderId, all=true")
        if query.all is not None:
            canceled = await self._astra.cancel_all_orders(market, account)
            return Response(wire.encoded(canceled, numbers), media_type=wire.JSON)
        order = await self._astra.cancel_order(
            market, id=query.id, client_order_id=query.client_order_id, credentials=account
        )
        return _one(order, numbers)


def _meant(request: Request, symbol: str) -> tuple[str, Account]:
    """The market's symbol in its own spelling, and whose account is meant."""
    parsed = Symbol.parse(symbol)
    return str(parsed), account_of(request, parsed.exchange)


def _one(order: Order, numbers: Numbers, headers: dict[str, str] | None = None) -> Response:
    return wire.json_response(wire.fields_of(order, numbers), headers=headers)


def _fingerprint(market: str, order: OrderRequest, account: Account) -> bytes:
    """What makes two requests the same: market, order (however its JSON was written) and account."""
    parts = [market, identity_of(account), order.model_dump(mode="json", exclude_none=True)]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).digest()


def add_routes(router: APIRouter, context: GatewayContext) -> None:
    """Add the private routes and what the API document says of them."""
    routes = Trading(context)
    schemas = openapi.model_schemas(Order, Fill, Balance, Position, OrderRequest, OrderChange)
    context.add_schemas(schemas | _body_schemas(schemas))
    reading = [openapi.NUMBERS, *exchange_keys.PARAMETERS]
    once = openapi.header(
        "Idempotency-Key",
        "Any text, new for each order: the order is placed once however often the request is repeated with it.",
    )
    order, orders = openapi.reference("Order"), openapi.array_of("Order")
    query: type[Query]
    for path, endpoint, query, schema, summary in (
        ("/orders", routes.orders, OrdersQuery, orders, "Open orders of a market, or one order by its id"),
        ("/fills", routes.fills, FillsQuery, openapi.array_of("Fill"), "Own fills of a market, oldest first"),
        ("/balances", routes.balances, ExchangeQuery, openapi.array_of("Balance"), "Balances of all wallets"),
        ("/positions", routes.positions, ExchangeQuery, openapi.array_of("Position"), "Open derivatives positions"),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            tags=["account"],
            summary=summary,
            response_model=None,
            responses=openapi.answers(schema, "What the venue says.", openapi.COMMON_PROBLEMS),
            openapi_extra={"parameters": openapi.parameters(query, reading)},
        )
    either = {"oneOf": [order, orders]}
    for method, endpoint, query, headers, body, schema, summary, text in (
        ("POST", routes.place, CommandQuery, [*reading, once], "NewOrder", order, "Place an order", _PLACING),
        ("PATCH", routes.change, CommandQuery, reading, "ChangedOrder", order, "Change a resting order", ""),
        ("DELETE", routes.cancel, CancelQuery, reading, None, either, "Cancel one order, or all of a market", ""),
    ):
        extra: dict[str, Any] = {"parameters": openapi.parameters(query, headers)}
        router.add_api_route(
            "/orders",
            endpoint,
            methods=[method],
            tags=["orders"],
            summary=summary,
            description=text,
            response_model=None,
            responses=openapi.answers(schema, "What the venue says.", openapi.COMMAND_PROBLEMS),
            openapi_extra=extra | (openapi.body_of(openapi.reference(body)) if body else {}),
        )


_PLACING = """Numbers in the body are taken exactly as written, as JSON numbers or as text. Exactly one of `quantity`
(base units), `contracts` and `quoteQuantity` is given. An order that breaks a rule of the market is refused before it
is sent; nothing is rounded.

An answer 504 (`order-outcome-unknown`) means that the order may have been placed. Never repeat it without an
Idempotency-Key: ask `GET /orders?market=&clientOrderId=` first."""


def _body_schemas(schemas: dict[str, Any]) -> dict[str, Any]:
    """The bodies: the models with the members that name the market and the order."""
    text = {"type": "string"}
    placed, changed = schemas["OrderRequest"], schemas["OrderChange"]
    return {
        "NewOrder": placed
        | {
            "title": "NewOrder",
            "properties": {"market": text} | placed["properties"],
            "required": ["market", *placed.get("required", [])],
        },
        "ChangedOrder": changed
        | {
            "title": "ChangedOrder",
            "properties": {"market": text, "id": text, "clientOrderId": text} | changed["properties"],
            "required": ["market"],
        },
    }
