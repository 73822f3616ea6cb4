"""Coinbase from the other side: Advanced Trade and the international gateway against the matching engine of the Astra
sandbox.

Written from the venue's documentation and recordings alone and sharing no code with the client side of this package,
so that a misreading on one side shows on the other. Loaded by the sandbox (entry point `astra.sandboxes`), never by
the venue.
"""

from astra_coinbase.sandbox.limits import SandboxLimits
from astra_coinbase.sandbox.protocol import CoinbaseSandbox

__all__ = ["CoinbaseSandbox", "SandboxLimits"]
