"""What can be wrong with a venue, one thing at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import anyio
from tiny_sandbox import TinySandbox
from tiny_venue import TinyFeed, TinySession, TinyVenue

from astra.errors import OrderOutcomeUnknown, VenueError
from astra.hookspecs import hookimpl
from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.models.orders import Fill, Order, OrderRequest
from astra.models.trades import Side, Trade
from astra.trading.checks import ClientIdRule, ClientIdsUnique

logger = logging.getLogger("tiny")


def with_session(session: type[TinySession]) -> type[TinyVenue]:
    """The venue with another session."""
    feed = type("FlawedFeed", (TinyFeed,), {"session_class": session})
    return type("FlawedVenue", (TinyVenue,), {"feed_class": feed})


class MakersSide(TinySession):
    def side(self, text: str) -> Side:
        return Side(text).opposite


class TradesInContracts(TinySession):
    def trade(self, market: Market, row: Any, received_ns: int) -> Trade:
        number, price, amount, side, time_ms = row
        return Trade(market.symbol, float(price), float(amount), Side(side), time_ms, str(number), received_ns)


class GapsUnnoticed(TinySession):
    def change(self, target: Any, message: Any, bids: Any, asks: Any, received_ns: int) -> None:
        target.delta(0, message["seq"], 0, bids, asks, message["time"], received_ns)


class BooksInContracts(TinySession):
    def levels(self, market: Market, rows: Any) -> Any:
        return [(float(price), float(amount)) for price, amount in rows]

    def trade(self, market: Market, row: Any, received_ns: int) -> Trade:
        return TinySession(self.feed, self.endpoint, self.outlet).trade(market, row, received_ns)


class UnsortedBook(TinyVenue):
    @hookimpl
    async def get_orderbook(self, market: Market, depth: int) -> Orderbook:
        book = await super().get_orderbook(market, depth)
        return Orderbook(book.market, book.update_id, book.bids, book.asks[::-1], book.time, book.received)


class DoubledOrder(TinyVenue):
    """Repeats a placement whose answer is lost."""

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Any) -> Order:
        try:
            return await super().place_order(market, order, credentials)
        except OrderOutcomeUnknown:
            again = order.model_copy(update={"client_order_id": f"again-{time.time_ns()}"[:24]})
            return await super().place_order(market, again, credentials)


class FillsInContracts(TinyVenue):
    def fill_of(self, market: Market, row: Any) -> Fill:
        fill = super().fill_of(market, row)
        return fill if fill.contracts is None else fill.model_copy(update={"quantity": fill.contracts})


class SecretInLog(TinyVenue):
    def sign(self, credentials: Any) -> Any:
        logger.debug("signing with %s", credentials.key_for("spot").secret.get_secret_value())
        return super().sign(credentials)


class SignatureInError(TinyVenue):
    async def tell(self, market: Market, operation: str, path: str, credentials: Any, body: Any, **ids: Any) -> Any:
        signed: list[Any] = []

        def noting(sign: Any) -> Any:
            def noted(request: Any, now_ms: int) -> Any:
                signed.append(sign(request, now_ms))
                return signed[-1]

            return noted

        make = self.sign
        self.sign = lambda credentials: noting(make(credentials))  # type: ignore[method-assign]
        try:
            return await super().tell(market, operation, path, credentials, body, **ids)
        except VenueError as error:
            error.message += f" ({dict(signed[-1].headers)})"
            error.args = (error.message,)
            raise
        finally:
            self.sign = make  # type: ignore[method-assign]


class VagueFunds(TinyVenue):
    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Any) -> Order:
        try:
            return await super().place_order(market, order, credentials)
        except VenueError as error:
            if error.code == "funds":
                raise VenueError(error.message, exchange=self.code) from None
            raise


class ForEver(TinyVenue):
    """Claims more than the venue does."""

    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        "default": ClientIdRule(max_length=24, alphabet="A-Za-z0-9-", unique=ClientIdsUnique.FOREVER)
    }


class CallsHome(TinyVenue):
    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        try:
            async with await anyio.connect_tcp("192.0.2.1", 443):
                pass
        except OSError:
            logger.debug("not at home")
        return await super().list_markets()


class LeaksSockets(TinyVenue):
    """A connection that is closed only where nobody cancels."""

    @hookimpl
    async def get_balances(self, credentials: Any) -> Any:
        host, _, port = self.settings.hosts.rest.removeprefix("http://").partition(":")
        socket = await anyio.connect_tcp(host, int(port))
        self.__dict__.setdefault("leaked", []).append(socket)
        balances = await super().get_balances(credentials)
        await socket.aclose()
        return balances


class FalselyUnlisted(TinyVenue):
    """Calls an order that is not found not placed, at once."""

    @hookimpl
    async def resolve_order(self, market: Market, client_order_id: str, since: int, credentials: Any) -> Order | bool:
        found = await super().resolve_order(market, client_order_id, since, credentials)
        return found if isinstance(found, Order) else False


class WrongBalances(TinyFeed):
    """The stream's balances are not the account's."""

    def parse(self, kind: str, row: Any, market: Any) -> Any:
        if kind == "balance":
            row = row | {"total": "1", "available": "1", "locked": "0"}
        return super().parse(kind, row, market)


FLAWS: dict[str, tuple[type[TinyVenue], type[TinySandbox]]] = {
    "makers-side": (with_session(MakersSide), TinySandbox),
    "trades-in-contracts": (with_session(TradesInContracts), TinySandbox),
    "books-in-contracts": (with_session(BooksInContracts), TinySandbox),
    "gaps-unnoticed": (with_session(GapsUnnoticed), TinySandbox),
    "unsorted-book": (UnsortedBook, TinySandbox),
    "doubled-order": (DoubledOrder, TinySandbox),
    "fills-in-contracts": (FillsInContracts, TinySandbox),
    "secret-in-log": (SecretInLog, TinySandbox),
    "signature-in-error": (SignatureInError, TinySandbox),
    "vague-funds": (VagueFunds, TinySandbox),
    "for-ever": (ForEver, TinySandbox),
    "calls-home": (CallsHome, TinySandbox),
    "leaks-sockets": (LeaksSockets, TinySandbox),
    "falsely-unlisted": (FalselyUnlisted, TinySandbox),
    "wrong-balances": (type("FlawedVenue", (TinyVenue,), {"feed_class": WrongBalances}), TinySandbox),
}
