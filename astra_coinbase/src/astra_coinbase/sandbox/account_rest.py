"""Advanced Trade: wallets, futures balance and positions, fees, portfolios, what the key may do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.sandbox import Account, EnginePosition, Exchange
from astra.sandbox.toolkit import plain
from astra_coinbase.sandbox.calls import Call, Endpoint, names, page
from astra_coinbase.sandbox.catalogue import Catalogue, Listing
from astra_coinbase.sandbox.markets import SPOT, US_FUTURES
from astra_coinbase.sandbox.wire import iso_ms, made_uuid, not_found

_FIAT = ("USD", "EUR", "GBP", "SGD", "CAD")
_OPENED_MS = 1_790_000_000_000
ZERO = Decimal(0)


class AccountData:
    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def routes(self) -> dict[str, Endpoint]:
        return {
            "GET /accounts": Endpoint(self._accounts, names("limit cursor retail_portfolio_id")),
            "GET /accounts/{account_uuid}": Endpoint(self._account),
            "GET /cfm/balance_summary": Endpoint(lambda call: {"balance_summary": self.summary(call.account)}),
            "GET /cfm/positions": Endpoint(self._positions),
            "GET /cfm/positions/{product_id}": Endpoint(self._position),
            "GET /transaction_summary": Endpoint(
                self._fees, names("product_type contract_expiry_type product_venue user_native_currency")
            ),
            "GET /portfolios": Endpoint(self._portfolios, names("portfolio_type")),
            "GET /key_permissions": Endpoint(self._permissions),
        }

    # --- spot wallets ---

    def _rows(self, account: Account) -> list[dict[str, Any]]:
        native = self._catalogue.asset_names()
        held = {b.asset: b for b in self._engine.balances(account) if b.wallet == SPOT}
        rows = []
        for asset, balance in sorted(held.items()):
            name = native.get(asset, asset)
            fiat = name in _FIAT
            rows.append(
                {
                    "uuid": made_uuid("account", account.name, name),
                    "name": "Cash (USD)" if name == "USD" else f"{name} Wallet",
                    "currency": name,
                    "available_balance": {"value": plain(balance.available), "currency": name},
                    "default": False,
                    "active": True,
                    "created_at": iso_ms(_OPENED_MS),
                    "updated_at": iso_ms(_OPENED_MS),
                    "deleted_at": None,
                    "type": "ACCOUNT_TYPE_FIAT" if fiat else "ACCOUNT_TYPE_CRYPTO",
                    "ready": True,
                    "hold": {"value": plain(balance.locked), "currency": name},
                    "retail_portfolio_id": made_uuid("portfolio", account.name),
                    "platform": "ACCOUNT_PLATFORM_CONSUMER",
                }
            )
        return rows

    def _accounts(self, call: Call) -> dict[str, Any]:
        rows, cursor = page(self._rows(call.account), call.params, 49, 250)
        return {"accounts": rows, "has_next": bool(cursor), "cursor": cursor, "size": len(rows)}

    def _account(self, call: Call) -> dict[str, Any]:
        for row in self._rows(call.account):
            if row["uuid"] == call.path["account_uuid"]:
                return {"account": row}
        raise not_found("account not found")

    # --- futures ---

    def _listing(self, position: EnginePosition) -> Listing | None:
        listing = self._catalogue.of_symbol(position.market)
        return listing if listing.product == US_FUTURES else None

    def summary(self, account: Account, *, bare: bool = False) -> dict[str, Any]:
        """The futures balance: amounts as {value, currency}, on the stream as bare strings."""
        held = {b.wallet: b for b in self._engine.balances(account) if b.asset == "USD"}
        futures, spot = held.get(US_FUTURES), held.get(SPOT)
        total = futures.total if futures else ZERO
        available = futures.available if futures else ZERO
        in_spot = spot.available if spot else ZERO
        profit = sum(
            (
                _profit(position, listing, self._engine.mark_price(position.market))
                for position in self._engine.positions(account)
                if (listing := self._listing(position)) is not None
            ),
            ZERO,
        )

        def money(amount: Decimal) -> Any:
            text = f"{amount:.2f}"
            return text if bare else {"value": text, "currency": "USD"}

        def window(kind: str) -> dict[str, Any]:
            return {
                "margin_window_type": f"FCM_MARGIN_WINDOW_TYPE_{kind}",
                "margin_level": "MARGIN_LEVEL_TYPE_BASE",
                "initial_margin": money(total - available),
                "maintenance_margin": money((total - available) / 2),
                "liquidation_buffer_percentage": "1000",
                "total_hold": money(ZERO),
                "futures_buying_power": money(available),
            }

        return {
            "futures_buying_power": money(available),
            "total_usd_balance": money(total + in_spot),
            "cbi_usd_balance": money(in_spot),
            "cfm_usd_balance": money(total),
            "total_open_orders_hold_amount": money(ZERO),
            "unrealized_pnl": money(profit),
            "daily_realized_pnl": money(ZERO),
            "initial_margin": money(total - available),
            "available_margin": money(available + profit),
            "liquidation_threshold": money((total - available) / 2),
            "liquidation_buffer_amount": money(available),
            "liquidation_buffer_percentage": "1000",
            "intraday_margin_window_measure": window("INTRADAY"),
            "overnight_margin_window_measure": window("OVERNIGHT"),
        }

    def _position_rows(self, account: Account) -> list[dict[str, Any]]:
        found = ((position, self._listing(position)) for position in self._engine.positions(account))
        return [self._position_row(account, position, listing) for position, listing in found if listing is not None]

    def _position_row(self, account: Account, position: EnginePosition, listing: Listing) -> dict[str, Any]:
        mark = self._engine.mark_price(listing.symbol)
        worth = abs(position.quantity) * listing.size * mark

        def money(amount: Decimal) -> dict[str, str]:
            return {"value": plain(amount), "currency": "USD"}

        fees = sum((fill.fee for fill in self._engine.fills(account, listing.symbol)), ZERO)
        return {
            "product_id": listing.native,
            "expiration_time": iso_ms(listing.expiry),
            "side": "LONG" if position.quantity > 0 else "SHORT",
            "number_of_contracts": plain(abs(position.quantity)),
            "current_price": money(mark),
            "avg_entry_price": money(position.entry_price),
            "unrealized_pnl": money(_profit(position, listing, mark)),
            "daily_realized_pnl": money(position.realized_pnl),
            "total_fees": money(fees),
            "contract_size": plain(listing.size),
            "entry_vwap": money(position.entry_price),
            "liquidation_price": money(ZERO),
            "leverage": "5",
            "im_contribution": money((worth / 10).quantize(Decimal("0.01"))),
            "mm_contribution": money((worth / 20).quantize(Decimal("0.01"))),
            "position_notional": money(worth),
        }

    def _positions(self, call: Call) -> dict[str, Any]:
        return {"positions": self._position_rows(call.account)}

    def _position(self, call: Call) -> dict[str, Any]:
        for row in self._position_rows(call.account):
            if row["product_id"] == call.path["product_id"]:
                return {"position": row}
        raise not_found("position not found")

    # --- the rest ---

    def _fees(self, call: Call) -> dict[str, Any]:
        product = US_FUTURES if call.params.text("product_type") == "FUTURE" else SPOT
        listing = next(self._catalogue.of_product(product), None)
        maker, taker = (ZERO, ZERO) if listing is None else self._engine.fee_rates(listing.symbol)
        kinds = ["VOLUME_TYPE_SPOT", "VOLUME_TYPE_US_DERIVATIVES"]
        empty = dict.fromkeys(("perps_vol_from", "perps_vol_to", "futures_vol_from", "futures_vol_to"), "")
        return {
            "total_volume": 0,
            "total_fees": 0,
            "fee_tier": {
                "pricing_tier": "Intro 1",
                "usd_from": "",
                "usd_to": "",
                "taker_fee_rate": plain(taker),
                "maker_fee_rate": plain(maker),
                "aop_from": "0",
                "aop_to": "1000000",
                **empty,
                "volume_types_and_range": [{"volume_types": kinds, "vol_from": "0", "vol_to": "10000"}],
            },
            "margin_rate": None,
            "goods_and_services_tax": None,
            "advanced_trade_only_volume": 0,
            "advanced_trade_only_fees": 0,
            "coinbase_pro_volume": 0,
            "coinbase_pro_fees": 0,
            "total_balance": "0",
            "has_promo_fee": False,
            "volume_breakdown": [{"volume_type": kind, "volume": 0} for kind in kinds],
            "has_cost_plus_commission": False,
        }

    def _portfolios(self, call: Call) -> dict[str, Any]:
        uuid = made_uuid("portfolio", call.account.name)
        return {"portfolios": [{"name": "Default", "uuid": uuid, "type": "DEFAULT", "deleted": False}]}

    def _permissions(self, call: Call) -> dict[str, Any]:
        uuid = made_uuid("portfolio", call.account.name)
        allowed = {"can_view": True, "can_trade": True, "can_transfer": False}
        return {**allowed, "portfolio_uuid": uuid, "portfolio_type": "DEFAULT"}


def _profit(position: EnginePosition, listing: Listing, mark: Decimal) -> Decimal:
    return (mark - position.entry_price) * position.quantity * listing.size
