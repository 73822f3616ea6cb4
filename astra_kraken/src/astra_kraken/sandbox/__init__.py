"""Kraken seen from the venue's side: Spot and derivatives on the sandbox's matching engine."""

from astra_kraken.sandbox.limits import SandboxLimits
from astra_kraken.sandbox.protocol import KrakenSandbox

__all__ = ["KrakenSandbox", "SandboxLimits"]
