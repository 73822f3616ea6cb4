"""The gateway's private methods on money: account summaries, positions, leverage."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.sandbox import Account, EnginePosition, Exchange
from astra_coinbase.sandbox.calls import names
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.gateway.calls import Method, RpcCall, invalid, number
from astra_coinbase.sandbox.gateway.market import GatewayMarket, kind_of
from astra_coinbase.sandbox.markets import INTERNATIONAL

ZERO = Decimal(0)
_DEFAULT_LEVERAGE = Decimal(20)
_MOST_LEVERAGE = 50


class GatewayAccount:
    def __init__(self, engine: Exchange, catalogue: Catalogue, market: GatewayMarket) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._market = market

    def methods(self) -> dict[str, Method]:
        return {
            "private/get_account_summary": Method(self._one, names("currency extended subaccount_id")),
            "private/get_account_summaries": Method(self._all, names("extended subaccount_id")),
            "private/get_positions": Method(self._positions, names("currency kind subaccount_id include_isolated")),
            "private/get_position": Method(self._position, names("instrument_name isolated")),
            "private/get_leverage": Method(self._leverage, names("instrument_name currency")),
            "private/set_leverage": Method(self._set_leverage, names("instrument_name currency leverage")),
        }

    # --- summaries ---

    def currencies(self) -> list[str]:
        return sorted({listing.settlement for listing in self._catalogue.instruments()})

    def summary(self, account: Account, currency: str) -> dict[str, Any]:
        """What there is of one currency."""
        held = next(
            (b for b in self._engine.balances(account) if b.wallet == INTERNATIONAL and b.asset == currency), None
        )
        total, available = (held.total, held.available) if held else (ZERO, ZERO)
        profit = sum(
            (
                self.profit(position, listing)
                for position, listing in self._held(account)
                if listing.settlement == currency
            ),
            ZERO,
        )
        margin = number(total - available)
        return {
            "available_funds": number(available),
            "available_withdrawal_funds": number(available),
            "balance": number(total),
            "cross_collateral_enabled": False,
            "currency": currency,
            "delta_total": 0.0,
            "equity": number(total + profit),
            "fee_balance": 0,
            "futures_pl": number(profit),
            "futures_session_rpl": 0.0,
            "futures_session_upl": number(profit),
            "initial_margin": margin,
            "maintenance_margin": margin / 2,
            "margin_balance": number(total + profit),
            "margin_model": "segregated_sm",
            "options_delta": 0.0,
            "options_gamma": 0.0,
            "options_pl": 0.0,
            "options_session_rpl": 0,
            "options_session_upl": 0.0,
            "options_theta": 0.0,
            "options_value": 0.0,
            "options_vega": 0.0,
            "portfolio_margining_enabled": False,
            "projected_delta_total": 0.0,
            "projected_initial_margin": margin,
            "projected_maintenance_margin": margin / 2,
            "session_rpl": 0.0,
            "session_upl": number(profit),
            "spot_reserve": 0,
            "total_pl": number(profit),
        }

    def _one(self, call: RpcCall) -> dict[str, Any]:
        currency = call.params.need("currency")
        if currency not in self.currencies():
            raise invalid("currency", f"must be one of {', '.join(self.currencies())}")
        return self.summary(call.account, currency)

    def _all(self, call: RpcCall) -> dict[str, Any]:
        return {
            "creation_timestamp": 1_687_352_432_143,
            "email": "user@example.com",
            "id": 10,
            "interuser_transfers_enabled": False,
            "login_enabled": False,
            "mmp_enabled": False,
            "referrer_id": None,
            "security_keys_enabled": False,
            "self_trading_extended_to_subaccounts": False,
            "self_trading_reject_mode": "cancel_maker",
            "summaries": [self.summary(call.account, currency) for currency in self.currencies()],
        }

    # --- positions ---

    def _held(self, account: Account) -> list[tuple[EnginePosition, Listing]]:
        found = ((p, self._catalogue.of_symbol(p.market)) for p in self._engine.positions(account))
        return [(position, listing) for position, listing in found if listing.product == INTERNATIONAL]

    def profit(self, position: EnginePosition, listing: Listing) -> Decimal:
        """Unrealised, in the settlement currency."""
        size, mark = listing.amount(position.quantity), self._engine.mark_price(listing.symbol)
        if not position.quantity or not position.entry_price:
            return ZERO
        if listing.is_inverse and not listing.is_option:
            return size * (1 / position.entry_price - 1 / mark)
        return size * (mark - position.entry_price)

    def position_row(self, account: Account, position: EnginePosition, listing: Listing) -> dict[str, Any]:
        """A position; `size` in the unit of amounts, negative when short."""
        mark = self._engine.mark_price(listing.symbol)
        size = listing.amount(position.quantity)
        profit = number(self.profit(position, listing))
        leverage = self._leverage_of(account, listing)
        coin_worth = size / mark if listing.is_inverse else size * mark
        worth = number(abs(coin_worth))
        row: dict[str, Any] = {
            "average_price": number(position.entry_price),
            "delta": number(size / mark) if listing.is_inverse and not listing.is_option else number(size),
            "direction": "buy" if size > 0 else "sell" if size < 0 else "zero",
            "estimated_liquidation_price": 0.0,
            "floating_profit_loss": profit,
            "index_price": number(self._market.index_price(listing)),
            "initial_margin": worth / float(leverage),
            "instrument_name": listing.native,
            "interest_value": 0.0,
            "kind": kind_of(listing),
            "leverage": int(leverage),
            "maintenance_margin": worth / float(leverage) / 2,
            "mark_price": number(mark),
            "open_orders_margin": 0.0,
            "realized_funding": 0.0,
            "realized_profit_loss": number(position.realized_pnl),
            "settlement_price": number(mark),
            "size": number(size),
            "total_profit_loss": profit,
        }
        if not listing.is_option:
            row["size_currency"] = number(size / mark) if listing.is_inverse else number(size)
        return row

    def _positions(self, call: RpcCall) -> list[dict[str, Any]]:
        currency, kind = call.params.text("currency") or "any", call.params.text("kind") or "any"
        return [
            self.position_row(call.account, position, listing)
            for position, listing in self._held(call.account)
            if currency in ("any", listing.settlement) and kind in ("any", kind_of(listing))
        ]

    def _position(self, call: RpcCall) -> dict[str, Any]:
        listing = self._market.find(call.params.need("instrument_name"))
        found = [position for position, other in self._held(call.account) if other is listing]
        none = EnginePosition(market=listing.symbol, side=None, quantity=ZERO, entry_price=ZERO)
        return self.position_row(call.account, found[0] if found else none, listing)

    # --- leverage ---

    def _leverage_of(self, account: Account, listing: Listing) -> Decimal:
        table = account.settings.get("leverage") or {}
        return Decimal(table.get(listing.symbol) or _DEFAULT_LEVERAGE)

    def _leverage(self, call: RpcCall) -> dict[str, Any]:
        listing = self._market.find(call.params.need("instrument_name"))
        return self._leverage_row(call.account, listing)

    def _leverage_row(self, account: Account, listing: Listing) -> dict[str, Any]:
        leverage = number(self._leverage_of(account, listing))
        return {"instrument_name": listing.native, "leverage": leverage, "max_leverage": _MOST_LEVERAGE}

    def _set_leverage(self, call: RpcCall) -> dict[str, Any]:
        listing = self._market.find(call.params.need("instrument_name"))
        leverage = call.params.decimal("leverage")
        if leverage is None or not 1 <= leverage <= _MOST_LEVERAGE:
            raise invalid("leverage", f"must be between 1 and {_MOST_LEVERAGE}")
        call.account.settings.setdefault("leverage", {})[listing.symbol] = leverage
        return self._leverage_row(call.account, listing)
