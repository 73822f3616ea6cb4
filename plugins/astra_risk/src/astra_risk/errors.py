"""Refusals of the risk limits. Nothing was sent: each says which rule, by what figure, against which setting."""

from __future__ import annotations

from decimal import Decimal

from astra.errors import InvalidOrder, PermissionDenied
from astra.models.base import decimal_text


class LimitExceeded(InvalidOrder):
    """The order would break a limit, or what the limit is measured on could not be known.

    `rule` names the limit ("risk-max-position"), `setting` the key that sets it, `limit` its value, `figure` what the
    order would make of it; `figure` is None where it could not be known.
    """

    def __init__(
        self, message: str, *, exchange: str, rule: str, setting: str, limit: Decimal, figure: Decimal | None
    ) -> None:
        super().__init__(message, exchange=exchange, rule=rule)
        self.setting = setting
        self.limit = limit
        self.figure = figure


class MarketNotAllowed(PermissionDenied):
    """The market is on the deny-list, or not on the allow-list (`rule` "risk-market"); `setting` names the list."""

    rule = "risk-market"

    def __init__(self, message: str, *, exchange: str, setting: str) -> None:
        super().__init__(message, exchange=exchange)
        self.setting = setting


class TradingHalted(PermissionDenied):
    """The kill switch is on (`rule` "risk-kill-switch"): only cancels pass. `setting` names what turned it on."""

    rule = "risk-kill-switch"

    def __init__(self, message: str, *, exchange: str, setting: str) -> None:
        super().__init__(message, exchange=exchange)
        self.setting = setting


def shown(figure: Decimal) -> str:
    """A figure as messages print it: plain, and no longer than anybody reads."""
    text = decimal_text(figure) if -40 <= figure.adjusted() <= 40 else f"{figure:.10E}"
    return text if len(text) <= 40 else f"about {figure:.12g}"
