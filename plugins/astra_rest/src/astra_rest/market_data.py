"""`GET /markets`, `GET /orderbook`, `GET /bbo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from astra.directory import canonical_exchange
from astra.models.markets import Market
from astra.models.orderbook import BookState, Level, Orderbook
from astra.symbols import Symbol
from astra_gateway import openapi
from astra_gateway.context import GatewayContext, require
from astra_gateway.keys import Scope
from astra_gateway.query import Numbers, Query, numbers_of, read_query
from astra_rest import wire
from astra_rest.snapshots import Shared

SHARED_S = 1.0
"""An answer of a venue serves all requests for so long: asking for a hot market twice costs its limits once."""

DEFAULT_DEPTH = 100
MAX_DEPTH = 5000
DEPTHS = (20, 100, 500, 1000, 5000)
"""Depths that venues are asked for: the next one up is fetched and cut, so that requests share it."""

_NUMBERS = Field(default=None, description="`string`: numbers as exact text. Default: JSON numbers.")


class MarketsQuery(Query):
    exchange: str = Field(description="Exchange code, such as BINANCE.", min_length=1, max_length=40)
    numbers: Numbers | None = _NUMBERS


class OrderbookQuery(Query):
    market: str = Field(description="Market symbol, such as BINANCE-SPOT-BTC-USDT.", max_length=200)
    depth: int = Field(default=DEFAULT_DEPTH, ge=1, le=MAX_DEPTH, description="Levels a side, at most.")
    numbers: Numbers | None = _NUMBERS


class BboQuery(Query):
    market: str = Field(description="Market symbol, such as BINANCE-SPOT-BTC-USDT.", max_length=200)
    numbers: Numbers | None = _NUMBERS


class _Book(NamedTuple):
    market: str
    update_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    time: int | None


class MarketData:
    """The public market data routes of one gateway."""

    def __init__(self, context: GatewayContext) -> None:
        self._astra = context.astra
        self._books: Shared[Orderbook] = Shared(context.clock, SHARED_S)
        self._markets: Shared[bytes] = Shared(context.clock, SHARED_S)

    async def markets(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(MarketsQuery, request)
        numbers = numbers_of(request, query.numbers)
        exchange = canonical_exchange(query.exchange.upper())

        async def encode() -> bytes:
            return wire.encoded(await self._astra.list_markets(exchange), numbers)

        return Response(await self._markets.get((exchange, numbers), encode), media_type=wire.JSON)

    async def orderbook(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(OrderbookQuery, request)
        numbers = numbers_of(request, query.numbers)
        book = await self._book(query.market, query.depth)
        bids, asks = wire.levels(book.bids, numbers), wire.levels(book.asks, numbers)
        return wire.json_response(wire.OrderbookAnswer(bids, asks, book.market, book.update_id, book.time))

    async def bbo(self, request: Request) -> Response:
        require(request, Scope.READ)
        query = read_query(BboQuery, request)
        numbers = numbers_of(request, query.numbers)
        book = await self._book(query.market, 1)
        bids, asks = wire.levels(book.bids, numbers), wire.levels(book.asks, numbers)
        best_bid, best_ask = (side[0] if side else None for side in (bids, asks))
        return wire.json_response(wire.BestBidOffer(book.market, best_bid, best_ask, book.time))

    async def _book(self, symbol: str, depth: int) -> _Book:
        """The live book if somebody streams it and it can be trusted, else a snapshot by REST (shared for a second)."""
        market = str(Symbol.parse(symbol))
        live = self._astra.live_book(market)
        if live is not None and live.state is BookState.LIVE:
            return _Book(market, live.update_id, live.bids(depth), live.asks(depth), live.time)
        fetched = next(step for step in DEPTHS if step >= depth)
        book = await self._books.get((market, fetched), lambda: self._astra.get_orderbook(market, fetched))
        return _Book(book.market, book.update_id, book.bids[:depth], book.asks[:depth], book.time)


def add_routes(router: APIRouter, context: GatewayContext) -> None:
    """Add the market data routes and what the API document says of them."""
    routes = MarketData(context)
    context.add_schemas(openapi.model_schemas(Market) | openapi.struct_schemas(wire.OrderbookAnswer, wire.BestBidOffer))
    router.add_api_route(
        "/markets",
        routes.markets,
        methods=["GET"],
        tags=["market data"],
        summary="All markets of an exchange, with their metadata",
        response_model=None,
        responses=openapi.answers(openapi.array_of("Market"), "The markets.", openapi.COMMON_PROBLEMS),
        openapi_extra={"parameters": openapi.parameters(MarketsQuery, [openapi.NUMBERS])},
    )
    router.add_api_route(
        "/orderbook",
        routes.orderbook,
        methods=["GET"],
        tags=["market data"],
        summary="A snapshot of a market's order book",
        description="From the live book when one is running and in order, else from the venue (at most 1 s old).",
        response_model=None,
        responses=openapi.answers(openapi.reference("OrderbookAnswer"), "The book.", openapi.COMMON_PROBLEMS),
        openapi_extra={"parameters": openapi.parameters(OrderbookQuery, [openapi.NUMBERS])},
    )
    router.add_api_route(
        "/bbo",
        routes.bbo,
        methods=["GET"],
        tags=["market data"],
        summary="The best bid and ask of a market",
        description="From the live book when one is running and in order, else from the venue (at most 1 s old).",
        response_model=None,
        responses=openapi.answers(openapi.reference("BestBidOffer"), "The best prices.", openapi.COMMON_PROBLEMS),
        openapi_extra={"parameters": openapi.parameters(BboQuery, [openapi.NUMBERS])},
    )
