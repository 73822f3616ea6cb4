"""HTX from the other side: the venue's native protocol against the matching engine of the Astra sandbox.

Written from the venue's documentation alone and sharing no code with the client side of this package, so that a
misreading on one side shows on the other. Loaded by the sandbox (entry point `astra.sandboxes`), never by the venue.
"""

from astra_htx.sandbox.limits import Counter, SandboxLimits
from astra_htx.sandbox.protocol import HtxSandbox

__all__ = ["Counter", "HtxSandbox", "SandboxLimits"]
