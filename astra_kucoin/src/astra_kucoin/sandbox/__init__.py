"""KuCoin from the other side: the venue's native protocol against the matching engine of the Astra sandbox.

Written from the venue's documentation alone and sharing no code with the client side of this package, so that a
misreading on one side shows on the other. Loaded by the sandbox (entry point `astra.sandboxes`), never by the venue.
"""

from astra_kucoin.sandbox.limits import SandboxLimits
from astra_kucoin.sandbox.protocol import KucoinSandbox

__all__ = ["KucoinSandbox", "SandboxLimits"]
