"""Keeps the tests on this machine: an audit hook that ends whatever looks up or connects to another one.

`tests/conftest.py` runs this in the tests' own process and puts its folder on PYTHONPATH, so that every Python that a
test starts does the same on its own. What is raised is no OSError: code under test that copes with a network that is
down must not hide that it tried.
"""

import sys

HERE = ("localhost", "0.0.0.0", "::1", "::", "")
NOBODY = "192.0.2."
"""Addresses for documentation (RFC 5737): nobody is there, and tests of refused connections name them."""


class LeftThisMachine(RuntimeError):
    """A test tried to reach another machine."""


def guard(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = args[1]
        if not isinstance(address, tuple):
            return  # a path of this machine
        host = address[0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host is None or host in HERE or str(host).startswith(("127.", NOBODY)):
        return
    raise LeftThisMachine(f"a test tried to reach {host}: tests stay on this machine ({event})")


sys.addaudithook(guard)
