"""Pre-trade limits and a kill switch for Astra, as middleware (`risk`)."""

from astra_risk.errors import LimitExceeded, MarketNotAllowed, TradingHalted
from astra_risk.middleware import Risk
from astra_risk.settings import Limits, RiskSettings

__all__ = ["LimitExceeded", "Limits", "MarketNotAllowed", "Risk", "RiskSettings", "TradingHalted"]
