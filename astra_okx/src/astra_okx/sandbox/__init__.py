"""OKX from the other side: the venue's native protocol against the matching engine of the Astra sandbox.

Written from the venue's documentation alone and sharing no code with the client side of this package, so that a
misreading on one side shows on the other. Loaded by the sandbox (entry point `astra.sandboxes`), never by the venue.
"""

from astra_okx.sandbox.limits import SandboxLimits
from astra_okx.sandbox.protocol import OkxSandbox

__all__ = ["OkxSandbox", "SandboxLimits"]
