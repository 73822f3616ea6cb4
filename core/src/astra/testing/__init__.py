"""For the tests of venue authors and applications: a clock to turn by hand, a transport without sockets.

Nothing here is imported by the library itself.
"""

from astra.testing.clock import ManualClock
from astra.testing.host import ManualHost
from astra.testing.wire import MemoryConnection, MemoryTransport

__all__ = ["ManualClock", "ManualHost", "MemoryConnection", "MemoryTransport"]
