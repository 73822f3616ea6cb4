"""Orders over Spot's v2 stream: the same desk as REST, under other names."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from astra.sandbox import Account, EngineOrder
from astra_kraken.sandbox.calls import names
from astra_kraken.sandbox.catalogue import SpotListing
from astra_kraken.sandbox.spot_orders import (
    SpotDesk,
    Tag,
    Wanted,
    new_order,
    side_of,
    spot_txid,
    time_in_force,
)
from astra_kraken.sandbox.wire import SpotRefusal, parse_number, parse_time, whole_seconds

_ORDER = names(
    "order_type side order_qty limit_price limit_price_type triggers time_in_force margin post_only reduce_only "
    "effective_time expire_time cl_ord_id order_userref conditional display_qty fee_preference no_mpp stp_type "
    "cash_order_qty sender_sub_id"
)
_NOT_HERE = ("conditional", "display_qty", "effective_time")
Results = list[Any]
"""One a frame: the result, or the refusal."""


class StreamTrading:
    def __init__(self, desk: SpotDesk) -> None:
        self.desk = desk
        listed: dict[str, tuple[Callable[[Account, dict[str, Any], int], Results], frozenset[str]]] = {
            "add_order": (self._add, _ORDER | names("symbol deadline validate")),
            "batch_add": (self._batch_add, names("symbol orders deadline validate")),
            "amend_order": (
                self._amend,
                names(
                    "order_id cl_ord_id order_qty display_qty limit_price limit_price_type trigger_price "
                    "trigger_price_type post_only deadline symbol"
                ),
            ),
            "edit_order": (
                self._edit,
                names("order_id symbol order_qty limit_price order_userref post_only deadline validate"),
            ),
            "cancel_order": (self._cancel, names("order_id cl_ord_id order_userref")),
            "batch_cancel": (self._batch_cancel, names("orders cl_ord_id")),
            "cancel_all": (self._cancel_all, names("")),
            "cancel_all_orders_after": (self._after, names("timeout")),
        }
        self._listed = listed
        self.methods = frozenset(listed)

    def call(self, method: str, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        """The results of a request whose token was checked. Raises `SpotRefusal`."""
        handler, known = self._listed[method]
        _check_fields(params, known | {"token"}, method)
        return handler(account, params, now_ms)

    # --- placing ---

    def _listing(self, params: dict[str, Any]) -> SpotListing:
        symbol = params.get("symbol")
        listing = self.desk.catalogue.stream_pair(symbol) if isinstance(symbol, str) else None
        if listing is None:
            raise SpotRefusal(f"Currency pair not supported {symbol}")
        return self.desk.catalogue.now(listing)

    def _wanted(self, listing: SpotListing, row: dict[str, Any], deadline: Any) -> Wanted:
        for name in _NOT_HERE:
            if name in row:
                raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
        if row.get("fee_preference", "quote") != "quote" or row.get("stp_type", "cancel_newest") != "cancel_newest":
            raise SpotRefusal("EGeneral:Invalid arguments:fee_preference or stp_type")
        if row.get("margin") is True:
            raise SpotRefusal("EOrder:Margin allowance exceeded")
        if row.get("reduce_only") is True:
            raise SpotRefusal("EOrder:Reduce only:Non-margin order")
        quantity, cash = _quantity(row, "order_qty"), _quantity(row, "cash_order_qty")
        if (quantity is None) == (cash is None):
            raise SpotRefusal("EGeneral:Invalid arguments:order_qty")
        client_id, userref = row.get("cl_ord_id"), row.get("order_userref")
        if client_id is not None and (not isinstance(client_id, str) or userref is not None):
            raise SpotRefusal("EGeneral:Invalid arguments:cl_ord_id")
        if userref is not None and (type(userref) is not int or not -(2**31) <= userref < 2**31):
            raise SpotRefusal("EGeneral:Invalid arguments:order_userref")
        triggers = row.get("triggers")
        if triggers is not None and not isinstance(triggers, dict):
            raise SpotRefusal("EGeneral:Invalid arguments:triggers")
        expire_ms = None if row.get("expire_time") is None else parse_time(row["expire_time"])
        kind = row.get("order_type")
        order = new_order(
            listing,
            side_of(row.get("side"), "side"),
            kind if isinstance(kind, str) else None,
            quantity=quantity,
            quote_quantity=cash,
            price=_price(row, "limit_price"),
            trigger_price=_price(triggers, "price") if triggers else None,
            tif=time_in_force(row.get("time_in_force"), expire_ms),
            expire_ms=expire_ms,
            post_only=row.get("post_only") is True,
            client_id=client_id,
        )
        reference = str(triggers.get("reference", "last")) if triggers else None
        deadline_ms = None if deadline is None else parse_time(deadline)
        if deadline is not None and deadline_ms is None:
            raise SpotRefusal("EGeneral:Invalid arguments:deadline")
        oflags = ("post", "fciq") if order.post_only else ("fciq",)
        return Wanted(listing, order, Tag(userref, oflags, reference), deadline_ms)

    @staticmethod
    def _placed(order: EngineOrder | None, wanted: Wanted) -> dict[str, Any]:
        result: dict[str, Any] = {"order_id": "" if order is None else spot_txid(order)}
        if wanted.order.client_order_id is not None:
            result["cl_ord_id"] = wanted.order.client_order_id
        if wanted.tag.userref is not None:
            result["order_userref"] = wanted.tag.userref
        return result

    def _place(self, account: Account, wanted: Wanted, now_ms: int, *, validate: bool) -> dict[str, Any]:
        if validate:
            self.desk.check(account, wanted, now_ms)
            return self._placed(None, wanted)
        return self._placed(self.desk.place(account, wanted, now_ms, via_stream=True), wanted)

    def _add(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        wanted = self._wanted(self._listing(params), params, params.get("deadline"))
        return [self._place(account, wanted, now_ms, validate=params.get("validate") is True)]

    def _batch_add(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        """2 to 15 orders. A list where all were taken, else an object that says which were not."""
        listing, rows = self._listing(params), params.get("orders")
        if not isinstance(rows, list) or not 2 <= len(rows) <= 15 or not all(isinstance(row, dict) for row in rows):
            raise SpotRefusal("EGeneral:Invalid arguments:orders")
        for row in rows:
            _check_fields(row, _ORDER, "batch_add")
        results: list[dict[str, Any]] = []
        for row in rows:
            try:
                wanted = self._wanted(listing, row, params.get("deadline"))
                placed = self._place(account, wanted, now_ms, validate=params.get("validate") is True)
                results.append(placed | {"success": True})
            except SpotRefusal as refusal:
                known = {"cl_ord_id": row["cl_ord_id"]} if "cl_ord_id" in row else {}
                results.append(known | {"success": False, "error": refusal.error})
        if all(result["success"] for result in results):
            return [[{name: value for name, value in r.items() if name != "success"} for r in results]]
        return [{"orders": results}]

    # --- changing and cancelling ---

    def _named(self, account: Account, params: dict[str, Any]) -> EngineOrder:
        order_id, client_id = params.get("order_id"), params.get("cl_ord_id")
        if (order_id is None) == (client_id is None):
            raise SpotRefusal("EGeneral:Invalid arguments:order_id")
        if client_id is not None:
            return self._by_client_id(account, client_id)
        return self.desk.open_by(account, str(order_id))[0]

    def _by_client_id(self, account: Account, client_id: Any) -> EngineOrder:
        order = self.desk.open_with_client_id(account, str(client_id))
        if order is None:
            raise SpotRefusal("EOrder:Unknown order")
        return order

    def _amend(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        deadline = params.get("deadline")
        self.desk.check_deadline(None if deadline is None else parse_time(deadline) or 0, now_ms)
        for name in ("display_qty", "trigger_price"):
            if name in params:
                raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
        order = self._named(account, params)
        amendment = self.desk.amend(
            account,
            order,
            now_ms,
            price=_price(params, "limit_price"),
            quantity=_quantity(params, "order_qty"),
            post_only=params.get("post_only") is True,
        )
        result = {"amend_id": amendment}
        if "cl_ord_id" in params:
            return [result | {"cl_ord_id": params["cl_ord_id"]}]
        return [result | {"order_id": params["order_id"]}]

    def _edit(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        self._listing(params)
        order = self.desk.open_by(account, str(params.get("order_id")))[0]
        former = spot_txid(order)
        edited = self.desk.edit(
            account,
            order,
            now_ms,
            price=_price(params, "limit_price"),
            quantity=_quantity(params, "order_qty"),
            userref=params.get("order_userref"),
        )
        return [{"order_id": spot_txid(edited), "original_order_id": former}]

    def _cancel(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        """One result an order."""
        results: Results = []
        for name in ("order_id", "cl_ord_id", "order_userref"):
            given = params.get(name, [])
            for reference in given if isinstance(given, list) else [given]:
                try:
                    if name == "cl_ord_id":
                        found = [self._by_client_id(account, reference)]
                    else:
                        found = self.desk.open_by(account, str(reference))
                    for order in found:
                        self.desk.cancel(account, [order], now_ms)
                        results.append({name: reference} if name == "cl_ord_id" else {"order_id": spot_txid(order)})
                except SpotRefusal as refusal:
                    results.append(refusal)
        if not results:
            raise SpotRefusal("EGeneral:Invalid arguments:order_id")
        return results

    def _batch_cancel(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        """2 to 50 ids of both kinds; those that are not open are passed over."""
        orders, client_ids = params.get("orders", []), params.get("cl_ord_id", [])
        if not 2 <= len(orders) + len(client_ids) <= 50:
            raise SpotRefusal("EGeneral:Invalid arguments:orders")
        found: dict[int, EngineOrder] = {}
        for reference in orders:
            order = self.desk.order(account, str(reference))
            if order is not None and order.status.is_open:
                found[order.id] = order
        for client_id in client_ids:
            order = self.desk.open_with_client_id(account, str(client_id))
            if order is not None:
                found[order.id] = order
        return [{"count": self.desk.cancel(account, found.values(), now_ms)}]

    def _cancel_all(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        return [{"count": self.desk.cancel(account, self.desk.open_orders(account), now_ms)}]

    def _after(self, account: Account, params: dict[str, Any], now_ms: int) -> Results:
        timeout = params.get("timeout")
        if type(timeout) is not int or not 0 <= timeout <= 86_400:
            raise SpotRefusal("EGeneral:Invalid arguments:timeout")
        strikes = self.desk.switch.arm(account, timeout, now_ms)
        trigger = "0" if strikes is None else whole_seconds(strikes)
        return [{"currentTime": whole_seconds(now_ms), "triggerTime": trigger}]


def _check_fields(params: dict[str, Any], known: frozenset[str], method: str) -> None:
    for name in params:
        if name not in known:
            raise SpotRefusal(f"Unsupported field: '{name}' for the given msg type: {method.replace('_', ' ')}")


def _quantity(row: dict[str, Any], name: str) -> Decimal | None:
    """A JSON number; text is refused. Raises `SpotRefusal`."""
    if name not in row:
        return None
    value = None if isinstance(row[name], str) else parse_number(row[name])
    if value is None or value <= 0:
        raise SpotRefusal(f"EGeneral:Invalid arguments:{name}")
    return value


def _price(row: dict[str, Any], name: str) -> Decimal | None:
    if name not in row:
        return None
    value = None if isinstance(row[name], str) else parse_number(row[name])
    if value is None or value <= 0:
        raise SpotRefusal("EOrder:Invalid price")
    return value
