"""Orders and fills as the venue shows them, in REST answers and in pushes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, Exchange, OrderEvent
from astra.sandbox.toolkit import plain
from astra_okx.sandbox.catalogue import Listing, algo_number, execution
from astra_okx.sandbox.tags import Algo, BookedFill, cancel_source, number_of, state_of, tag_of
from astra_okx.sandbox.wire import InstType

_DEFAULT_LEVERAGE = 20
_NO_PRICES = ("slOrdPx", "slTriggerPx", "slTriggerPxType", "tpOrdPx", "tpTriggerPx", "tpTriggerPxType")
_STOPS = (OrderType.STOP_LIMIT, OrderType.STOP_MARKET)


def leverage_of(account: Account, listing: Listing) -> str:
    """The leverage that the account set for the instrument; empty where there is none."""
    if listing.type not in (InstType.SWAP, InstType.FUTURES):
        return ""
    return str(account.settings.get("leverage", {}).get(listing.symbol, _DEFAULT_LEVERAGE))


def text(value: Decimal | None) -> str:
    """A number, or nothing."""
    return "" if value is None else plain(value)


def average(order: EngineOrder) -> str:
    price = order.average_price
    return "" if price is None else plain(round(price, 12))


def position_side_text(listing: Listing, order: EngineOrder) -> str:
    if order.position_side is not None:
        return order.position_side.value.lower()
    return "net" if listing.type.is_derivative else ""


def fee_asset(listing: Listing, order: EngineOrder) -> str:
    spot_buy = listing.type is InstType.SPOT and order.side is Side.BUY
    return listing.market.base_asset if spot_buy else listing.fee_asset


def rebate_asset(listing: Listing, order: EngineOrder) -> str:
    if listing.type is not InstType.SPOT:
        return listing.settle
    return listing.market.quote_asset if order.side is Side.BUY else listing.market.base_asset


def charged(fee: Decimal) -> str:
    """Negative is charged."""
    return plain(-fee)


def _common(account: Account, listing: Listing, order: EngineOrder) -> dict[str, Any]:
    """What REST and stream say alike of an order."""
    tag = tag_of(order)
    algo_id = str(algo_number(order)) if tag.algo is not None else ""
    return {
        "accFillSz": plain(order.filled),
        "algoClOrdId": tag.algo.client_id if tag.algo is not None else "",
        "algoId": algo_id,
        "attachAlgoClOrdId": "",
        "attachAlgoOrds": [],
        "cTime": str(tag.algo.triggered_ms if tag.algo is not None and tag.algo.triggered_ms else order.created),
        "cancelSource": cancel_source(order),
        "cancelSourceReason": "",
        "category": "normal",
        "ccy": "",
        "clOrdId": tag.client_id,
        "fee": charged(sum((fill.fee for fill in order.fills), Decimal(0))),
        "feeCcy": fee_asset(listing, order),
        "instId": listing.native,
        "instType": listing.type.value,
        "isTpLimit": "false",
        "linkedAlgoOrd": {"algoId": ""},
        "ordId": str(number_of(order)),
        "ordType": tag.type,
        "pnl": plain(sum((fill.realized_pnl for fill in order.fills), Decimal(0))),
        "px": text(order.price),
        "pxType": "",
        "pxUsd": "",
        "pxVol": "",
        "quickMgnType": "",
        "rebate": "0",
        "rebateCcy": rebate_asset(listing, order),
        "reduceOnly": "true" if order.reduce_only else "false",
        "side": order.side.value.lower(),
        "source": "7" if tag.algo is not None else "",
        "state": state_of(order),
        "stpId": "",
        "stpMode": tag.stp_mode,
        "sz": plain(order.quantity) if tag.quote_size is None else tag.quote_size,
        "tag": tag.tag,
        "tdMode": tag.td_mode,
        "tgtCcy": tag.target,
        "tradeQuoteCcy": listing.market.quote_asset if listing.type is InstType.SPOT else "",
        "uTime": str(order.updated),
        **dict.fromkeys(_NO_PRICES, ""),
    }


def order_row(account: Account, listing: Listing, order: EngineOrder) -> dict[str, Any]:
    """An order as REST shows it: `fillPx` and the like are those of the last fill."""
    last = order.fills[-1] if order.fills else None
    return _common(account, listing, order) | {
        "avgPx": average(order),
        "fillPx": "" if last is None else plain(last.price),
        "fillSz": "0" if last is None else plain(last.quantity),
        "fillTime": "" if last is None else str(last.time),
        "lever": leverage_of(account, listing),
        "posSide": position_side_text(listing, order) or "net",
        "tradeId": "" if last is None else str(last.trade_id),
    }


def order_push(
    account: Account, listing: Listing, event: OrderEvent, engine: Exchange, *, state: str | None = None
) -> dict[str, Any]:
    """An order as the `orders` channel pushes it: the fill of this very change, nothing where there was none."""
    order, fill = event.order, event.fill
    tag = tag_of(order)
    amended = event.kind == "AMENDED"
    last = engine.trades(listing.symbol, limit=1)
    worth_at = order.price or order.average_price or engine.mark_price(listing.symbol)
    row = _common(account, listing, order) | {
        "amendResult": "0" if amended else "",
        "amendSource": ("1" if tag.amending else "2") if amended else "",
        "avgPx": average(order) or "0",
        "code": "0",
        "execType": "" if fill is None else execution(fill.liquidity),
        "fillFee": "0" if fill is None else charged(fill.fee),
        "fillFeeCcy": "" if fill is None else fill.fee_asset,
        "fillFwdPx": "",
        "fillIdxPx": "",
        "fillMarkPx": "",
        "fillMarkVol": "",
        "fillNotionalUsd": "" if fill is None else plain(round(listing.worth(fill.quantity, fill.price), 12)),
        "fillPnl": "0" if fill is None else plain(fill.realized_pnl),
        "fillPx": "" if fill is None else plain(fill.price),
        "fillPxUsd": "",
        "fillPxVol": "",
        "fillSz": "0" if fill is None else plain(fill.quantity),
        "fillTime": "" if fill is None else str(fill.time),
        "lastPx": plain(last[0].price) if last else "",
        "lever": leverage_of(account, listing) or "0",
        "msg": "",
        "notionalUsd": plain(round(listing.worth(order.quantity, worth_at), 12)),
        "posSide": position_side_text(listing, order),
        "reqId": tag.request_id if amended and tag.amending else "",
        "tradeId": "" if fill is None else str(fill.trade_id),
    }
    return row if state is None else row | {"state": state}


def fill_row(listing: Listing, booked: BookedFill) -> dict[str, Any]:
    fill, tag = booked.fill, tag_of(booked.order)
    return {
        "billId": str(booked.bill_id),
        "clOrdId": tag.client_id,
        "execType": execution(fill.liquidity),
        "fee": charged(fill.fee),
        "feeCcy": fill.fee_asset,
        "feeRate": plain(-_rate(listing, fill)),
        "fillFwdPx": "",
        "fillIdxPx": "",
        "fillMarkPx": "",
        "fillMarkVol": "",
        "fillPnl": plain(fill.realized_pnl),
        "fillPx": plain(fill.price),
        "fillPxUsd": "",
        "fillPxVol": "",
        "fillSz": plain(fill.quantity),
        "fillTime": str(fill.time),
        "instId": listing.native,
        "instType": listing.type.value,
        "ordId": str(number_of(booked.order)),
        "posSide": position_side_text(listing, booked.order) or "net",
        "side": fill.side.value.lower(),
        "subType": "1" if fill.side is Side.BUY else "2",
        "tag": tag.tag,
        "tradeId": str(fill.trade_id),
        "tradeQuoteCcy": listing.market.quote_asset if listing.type is InstType.SPOT else "",
        "ts": str(fill.time),
    }


def _rate(listing: Listing, fill: EngineFill) -> Decimal:
    """The fee as a share of what it was taken from."""
    if listing.type is InstType.SPOT:
        received = fill.quantity if fill.side is Side.BUY else fill.quantity * fill.price
    elif listing.inverse and listing.type is not InstType.OPTION:
        received = listing.in_coin(fill.quantity, fill.price)
    else:
        received = listing.worth(fill.quantity, fill.price)
    return round(fill.fee / received, 6) if received else Decimal(0)


def algo_state(order: EngineOrder) -> str:
    """live, effective (triggered; what became of its order, the order says), or canceled."""
    if order.triggered:
        return "effective"
    return "live" if order.status.is_open else "canceled"


def algo_row(account: Account, listing: Listing, order: EngineOrder) -> dict[str, Any]:
    """A conditional or trigger order."""
    tag = tag_of(order)
    algo = tag.algo or Algo("conditional", tag.client_id, "sl")
    effective = algo_state(order) == "effective"
    ordered = "-1" if order.price is None else plain(order.price)
    prices = dict.fromkeys((*_NO_PRICES, "triggerPx", "triggerPxType", "ordPx"), "")
    if algo.trigger == "trigger":
        prices |= {"triggerPx": text(order.stop_price), "triggerPxType": algo.trigger_type, "ordPx": ordered}
    else:
        prices |= {
            f"{algo.trigger}TriggerPx": text(order.stop_price),
            f"{algo.trigger}TriggerPxType": algo.trigger_type,
            f"{algo.trigger}OrdPx": ordered,
        }
    return prices | {
        "activePx": "",
        "actualPx": text(order.price) if effective else "",
        "actualSide": algo.trigger if effective and algo.trigger != "trigger" else "",
        "actualSz": plain(order.quantity) if effective else "0",
        "algoClOrdId": algo.client_id,
        "algoId": str(algo_number(order)),
        "amendPxOnTriggerType": "0",
        "attachAlgoOrds": [],
        "cTime": str(order.created),
        "callbackRatio": "",
        "callbackSpread": "",
        "ccy": "",
        "clOrdId": "",
        "closeFraction": "",
        "failCode": "0",
        "instId": listing.native,
        "instType": listing.type.value,
        "isTradeBorrowMode": "",
        "last": "",
        "lever": leverage_of(account, listing),
        "linkedOrd": {"ordId": ""},
        "moveTriggerPx": "",
        "ordId": str(number_of(order)) if effective else "",
        "ordIdList": [str(number_of(order))] if effective else [],
        "ordType": algo.kind,
        "posSide": position_side_text(listing, order) or "net",
        "pxLimit": "",
        "pxSpread": "",
        "pxVar": "",
        "quickMgnType": "",
        "reduceOnly": "true" if order.reduce_only else "false",
        "side": order.side.value.lower(),
        "state": algo_state(order),
        "sz": plain(order.quantity),
        "szLimit": "",
        "tag": tag.tag,
        "tdMode": tag.td_mode,
        "tgtCcy": tag.target,
        "timeInterval": "",
        "tradeQuoteCcy": listing.market.quote_asset if listing.type is InstType.SPOT else "",
        "triggerTime": str(algo.triggered_ms) if algo.triggered_ms else "",
        "uTime": str(order.updated),
    }


def trigger_of(order_type: OrderType) -> str:
    """Which parameters an algo order of this type is shown by."""
    return "sl" if order_type in _STOPS else "tp"
