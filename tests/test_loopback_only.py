"""The guard that keeps the tests on this machine, in this process and in those that tests start."""

import socket
import subprocess
import sys

import pytest

ELSEWHERE = [
    'socket.getaddrinfo("api.exchange.example", 443)',
    'socket.create_connection(("198.51.100.7", 443), timeout=1)',
    'socket.socket(socket.AF_INET6).connect(("2001:db8::1", 443))',
]


@pytest.mark.parametrize("attempt", ELSEWHERE)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_test_that_reaches_for_another_machine_fails(attempt: str) -> None:
    with pytest.raises(RuntimeError, match="tests stay on this machine"):
        exec(attempt, {"socket": socket})


def test_a_process_that_a_test_starts_fails_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import socket; {ELSEWHERE[0]}"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "tests stay on this machine" in done.stderr


def test_this_machine_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
