"""Advanced Trade: placing, previewing, editing, cancelling and finding orders, and their fills."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from astra.models.orders import OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, Exchange, NewOrder, Reject
from astra.sandbox.toolkit import plain
from astra_coinbase.sandbox.calls import Body, Call, Endpoint, names, page
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.markets import INTERNATIONAL
from astra_coinbase.sandbox.orders import (
    EDITABLE,
    OrderFailed,
    Tag,
    failure_of,
    fill_row,
    order_row,
    read_order,
    status_of,
    tag_of,
)
from astra_coinbase.sandbox.wire import Refusal, bad_argument, iso_ms, made_uuid, order_number, order_uuid

_NONE = "UNKNOWN_FAILURE_REASON"
_NO_PREVIEW = "UNKNOWN_PREVIEW_FAILURE_REASON"
_NO_EDIT = "UNKNOWN_EDIT_ORDER_FAILURE_REASON"
_NO_CANCEL = "UNKNOWN_CANCEL_FAILURE_REASON"
_MOST_CANCELS = 100
_PREVIEWED = names("product_id side order_configuration leverage margin_type retail_portfolio_id")
_PLACED = _PREVIEWED | names("client_order_id preview_id self_trade_prevention_id sor_preference")
_LISTED = names(
    "order_ids product_ids product_type order_status time_in_forces order_types order_side start_date end_date"
    " order_placement_source contract_expiry_type asset_filters retail_portfolio_id limit cursor sort_by"
    " user_native_currency use_simplified_total_value_calculation product_id"
)
"""`product_id` (and of fills `order_id`): names of an older edition, which clients still send."""
_FILLS = names(
    "order_ids trade_ids product_ids start_sequence_timestamp end_sequence_timestamp retail_portfolio_id limit cursor"
    " sort_by asset_filters order_types order_side product_types product_id order_id"
)


class Trading:
    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def routes(self) -> dict[str, Endpoint]:
        edit = names("order_id price size")
        return {
            "POST /orders": Endpoint(self._create, _PLACED, command=True),
            "POST /orders/preview": Endpoint(self._preview, _PREVIEWED),
            "POST /orders/edit": Endpoint(self._edit, edit, command=True),
            "POST /orders/edit_preview": Endpoint(self._edit_preview, edit),
            "POST /orders/batch_cancel": Endpoint(self._cancel, names("order_ids"), command=True),
            "POST /orders/close_position": Endpoint(
                self._close, names("client_order_id product_id size"), command=True
            ),
            "GET /orders/historical/batch": Endpoint(self._list, _LISTED),
            "GET /orders/historical/fills": Endpoint(self._fills, _FILLS),
            "GET /orders/historical/{order_id}": Endpoint(self._one, names("client_order_id user_native_currency")),
        }

    # --- placing ---

    def _create(self, call: Call) -> dict[str, Any]:
        client_id = call.body.need("client_order_id")
        known = self._known(call.account, client_id)
        if known is not None:  # idempotent: the order that has this id already
            return self._placed(known)
        configuration = call.body.values.get("order_configuration")
        try:
            listing = self._listing(call.body)
            return self._placed(self._place(call.account, listing, read_order(listing, call.body, client_id)))
        except OrderFailed as failure:
            return _failed(failure) | {"order_configuration": configuration}

    def _known(self, account: Account, client_id: str) -> EngineOrder | None:
        for order in reversed(self._own(account)):
            if order.client_order_id == client_id:
                return order
        return None

    def _own(self, account: Account) -> list[EngineOrder]:
        """The account's orders on Advanced Trade, oldest first."""
        markets = self._engine.markets
        return [order for order in self._engine.orders(account) if markets[order.market].product != INTERNATIONAL]

    def _listing(self, body: Body) -> Listing:
        name = body.need("product_id")
        listing = self._catalogue.product(name)
        if listing is None:
            raise OrderFailed("INVALID_PRODUCT_ID", f"{name} is not a product")
        return listing

    def _place(self, account: Account, listing: Listing, new: NewOrder) -> EngineOrder:
        if new.type is OrderType.MARKET:
            _, bids, asks = self._engine.depth(listing.symbol, 1)
            if not (asks if new.side is Side.BUY else bids):
                raise failure_of("no-liquidity", "there is nothing to trade with", listing)
        try:
            return self._engine.place(account, new)
        except Reject as reject:
            if reject.rule == "insufficient-funds" and not self._has_wallet(account, listing, new.side):
                raise bad_argument("account is not available") from None
            raise failure_of(reject.rule, str(reject), listing) from None

    def _has_wallet(self, account: Account, listing: Listing, side: Side) -> bool:
        """Is there anything in the currency that the order pays with? USD and USDC have a wallet each."""
        market, wallet = listing.market, self._engine.wallet_of(listing.symbol)
        paid = market.base_asset if listing.spot and side is Side.SELL else market.quote_asset
        return any((b.wallet, b.asset) == (wallet, paid) and b.total for b in self._engine.balances(account))

    def _placed(self, order: EngineOrder) -> dict[str, Any]:
        tag = tag_of(order, self._catalogue.of_symbol(order.market))
        number = order_uuid(order.id)
        return {
            "success": True,
            "failure_reason": _NONE,
            "order_id": number,
            "success_response": {
                "order_id": number,
                "product_id": tag.product_id,
                "side": order.side.value,
                "client_order_id": tag.client_order_id,
            },
            "order_configuration": None,
        }

    def _close(self, call: Call) -> dict[str, Any]:
        client_id = call.body.need("client_order_id")
        known = self._known(call.account, client_id)
        if known is not None:
            return self._placed(known)
        try:
            listing = self._listing(call.body)
            held = next((p for p in self._engine.positions(call.account) if p.market == listing.symbol), None)
            if listing.spot or held is None:
                raise failure_of("reduce-only", "there is no position in this product", listing)
            size = call.body.decimal("size") or abs(held.quantity)
            new = NewOrder(
                market=listing.symbol,
                side=Side.SELL if held.quantity > 0 else Side.BUY,
                type=OrderType.MARKET,
                quantity=size,
                time_in_force=TimeInForce.IOC,
                reduce_only=True,
                client_order_id=client_id,
                tag=Tag(listing.native, client_id, "market_market_ioc", {"base_size": plain(size)}),
            )
            return self._placed(self._place(call.account, listing, new))
        except OrderFailed as failure:
            return _failed(failure) | {"order_configuration": None}

    def _preview(self, call: Call) -> dict[str, Any]:
        errors: list[str] = []
        listing: Listing | None = None
        new: NewOrder | None = None
        try:
            listing = self._listing(call.body)
            new = read_order(listing, call.body, "")
            self._check(call.account, listing, new)
        except OrderFailed as failure:
            errors.append(failure.preview or f"PREVIEW_{failure.reason}")
        bids, asks = ([], []) if listing is None else self._engine.depth(listing.symbol, 1)[1:]
        price = (new.price if new is not None else None) or (asks[0].price if asks else Decimal(0))
        base = new.quantity if new is not None else None
        quote = new.quote_quantity if new is not None else None
        worth = quote if quote is not None else (base or Decimal(0)) * price
        rate = Decimal(0) if listing is None else self._engine.fee_rates(listing.symbol)[1]
        return {
            "order_total": plain(worth * (1 + rate)),
            "commission_total": plain(worth * rate),
            "errs": errors,
            "warning": [],
            "quote_size": plain(worth),
            "base_size": plain(base),
            "best_bid": plain(bids[0].price) if bids else "",
            "best_ask": plain(asks[0].price) if asks else "",
            "is_max": False,
            "preview_id": made_uuid("preview", call.account.name, call.now_ms),
        }

    def _check(self, account: Account, listing: Listing, new: NewOrder) -> None:
        """The market's rules and the funds of an order that is only looked at. Raises `OrderFailed`."""
        market = listing.market
        if not listing.trading:
            raise failure_of("market-closed", "the product is not tradable", listing)
        if new.price is not None and market.tick_size and new.price % market.tick_size:
            raise failure_of("tick-size", "the price is not on the grid", listing)
        if new.quantity is not None and market.lot_size and new.quantity % market.lot_size:
            raise failure_of("lot-size", "the size is not on the grid", listing)
        if new.quantity is not None and new.quantity < (market.min_quantity or 0):
            raise failure_of("min-quantity", "the size is too small", listing)
        price = new.price or self._engine.mark_price(listing.symbol)
        if listing.spot:
            wallet = self._engine.wallet_of(listing.symbol)
            buys = new.side is Side.BUY
            asset = market.quote_asset if buys else market.base_asset
            needed = (new.quote_quantity or (new.quantity or 0) * price) if buys else (new.quantity or 0)
            held = {(b.wallet, b.asset): b.available for b in self._engine.balances(account)}
            if needed > held.get((wallet, asset), Decimal(0)):
                raise failure_of("insufficient-funds", "", listing)

    # --- editing and cancelling ---

    def _edit(self, call: Call) -> dict[str, Any]:
        try:
            order, listing = self._to_edit(call)
            price, size = call.body.decimal("price"), call.body.decimal("size")
            if not size:
                raise OrderFailed("INVALID_EDITED_SIZE", "size is the new size, with what is filled")
            if size < order.filled or size == order.filled:
                raise OrderFailed("CANNOT_EDIT_TO_BELOW_FILLED_SIZE", "more than that is filled already")
            self._amend(call, order, listing, price, size)
        except OrderFailed as failure:
            reason = failure.reason or _NO_EDIT
            return {
                "success": False,
                "error_response": {"error_details": failure.message, "edit_order_failure_reason": reason},
                "errors": {"edit_failure_reason": reason, "preview_failure_reason": failure.preview or _NO_PREVIEW},
            }
        return {"success": True, "success_response": {"order_id": order_uuid(order.id)}}

    def _to_edit(self, call: Call) -> tuple[EngineOrder, Listing]:
        order = self._find(call.account, call.body.need("order_id"))
        if order is None:
            raise OrderFailed("ORDER_NOT_FOUND", "order not found")
        listing = self._catalogue.of_symbol(order.market)
        if not order.status.is_open:
            filled = status_of(order) == "FILLED"
            raise OrderFailed("ORDER_IS_FULLY_FILLED" if filled else "ORDER_NOT_FOUND", "the order is done")
        if tag_of(order, listing).configuration not in EDITABLE:
            raise OrderFailed("ONLY_LIMIT_ORDER_EDITS_SUPPORTED", "only GTC limit and stop-limit orders can be edited")
        return order, listing

    def _amend(self, call: Call, order: EngineOrder, listing: Listing, price: Decimal | None, size: Decimal) -> None:
        tag = order.tag if isinstance(order.tag, Tag) else None
        before = dict(tag.members) if tag is not None else {}
        if tag is not None:  # events of the amendment print the new configuration
            tag.members |= {"base_size": plain(size)} | ({} if price is None else {"limit_price": plain(price)})
        try:
            self._engine.amend(call.account, order.id, price=price, quantity=size)
        except Reject as reject:
            if tag is not None:
                tag.members = before
            if reject.rule == "order-not-found":
                raise OrderFailed("ORDER_NOT_FOUND", "order not found") from None
            raise failure_of(reject.rule, str(reject), listing) from None
        if tag is not None:
            shown = {"price": plain(order.price), "size": plain(size)}
            tag.edits.append(shown | {"replace_accept_timestamp": iso_ms(call.now_ms)})

    def _edit_preview(self, call: Call) -> dict[str, Any]:
        errors: list[dict[str, str]] = []
        price, size = call.body.decimal("price") or Decimal(0), call.body.decimal("size") or Decimal(0)
        try:
            self._to_edit(call)
        except OrderFailed as failure:
            errors.append({"edit_failure_reason": failure.reason, "preview_failure_reason": _NO_PREVIEW})
        return {"errors": errors, "order_total": plain(price * size), "quote_size": plain(price * size)} | {
            "base_size": plain(size)
        }

    def _cancel(self, call: Call) -> dict[str, Any]:
        wanted = call.body.texts("order_ids")
        if len(wanted) > _MOST_CANCELS:
            raise bad_argument(f"at most {_MOST_CANCELS} orders a call")
        return {"results": [self._cancelled(call.account, number) for number in wanted]}

    def _cancelled(self, account: Account, number: str) -> dict[str, Any]:
        order = self._find(account, number)
        if order is not None:
            try:
                self._engine.cancel(account, order.id)
            except Reject:
                order = None
        found = order is not None
        return {
            "success": found,
            "failure_reason": _NO_CANCEL if found else "UNKNOWN_CANCEL_ORDER",
            "order_id": number,
        }

    # --- looking up ---

    def _find(self, account: Account, number: str) -> EngineOrder | None:
        order_id = order_number(number)
        if order_id is None:
            return None
        try:
            order = self._engine.order(account, order_id=order_id)
        except Reject:
            return None
        return order if self._engine.markets[order.market].product != INTERNATIONAL else None

    def _one(self, call: Call) -> dict[str, Any]:
        order = self._find(call.account, call.path["order_id"])
        if order is None:
            raise Refusal(404, "unknown", "order with this orderID was not found")
        return {"order": order_row(order, self._catalogue.of_symbol(order.market))}

    def _list(self, call: Call) -> dict[str, Any]:
        params = call.params
        statuses = params.all("order_status")
        if "OPEN" in statuses and len(statuses) > 1:
            raise bad_argument("OPEN cannot be combined with other statuses")
        start, end = params.time("start_date"), params.time("end_date")
        rows = []
        for order in reversed(self._own(call.account)):
            if (start is None or order.created >= start) and (end is None or order.created < end):
                row = order_row(order, self._catalogue.of_symbol(order.market))
                if _matches(row, params.all, statuses):
                    rows.append(row)
        found, cursor = page(rows, params, 100, 1000)
        return {"orders": found, "sequence": "0", "has_next": bool(cursor), "cursor": cursor}

    def _fills(self, call: Call) -> dict[str, Any]:
        params = call.params
        orders = params.all("order_ids") + params.all("order_id")
        trades, products = params.all("trade_ids"), params.all("product_ids") + params.all("product_id")
        start, end = params.time("start_sequence_timestamp"), params.time("end_sequence_timestamp")
        own = {order.id: order for order in self._own(call.account)}
        rows = []
        for fill in reversed(self._engine.fills(call.account)):
            order = own.get(fill.order_id)
            if order is None or (start is not None and fill.time < start) or (end is not None and fill.time > end):
                continue
            row = fill_row(fill, order, self._catalogue.of_symbol(fill.market))
            if (
                (not orders or row["order_id"] in orders)
                and (not trades or row["trade_id"] in trades)
                and (not products or row["product_id"] in products)
            ):
                rows.append(row)
        found, cursor = page(rows, params, 100, 3000)
        return {"fills": found, "cursor": cursor}


def _matches(row: dict[str, Any], wanted: Any, statuses: Iterable[str]) -> bool:
    pairs = (
        ("order_ids", "order_id"),
        ("product_ids", "product_id"),
        ("product_id", "product_id"),
        ("order_types", "order_type"),
        ("time_in_forces", "time_in_force"),
        ("order_side", "side"),
        ("product_type", "product_type"),
    )
    if statuses and row["status"] not in statuses:
        return False
    return all(not wanted(name) or row[member] in wanted(name) for name, member in pairs)


def _failed(failure: OrderFailed) -> dict[str, Any]:
    """Any of the three reasons may hold the real one; the others say UNKNOWN."""
    return {
        "success": False,
        "failure_reason": _NONE,
        "order_id": "",
        "error_response": {
            "error": failure.reason or _NONE,
            "message": failure.message,
            "error_details": "",
            "preview_failure_reason": failure.preview or _NO_PREVIEW,
            "new_order_failure_reason": failure.reason or _NONE,
        },
    }
