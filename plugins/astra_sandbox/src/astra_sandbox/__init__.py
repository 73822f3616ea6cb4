"""A matching engine and loopback server that speak the venues' native protocols."""

from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox

__all__ = ["MatchingEngine", "Sandbox"]
