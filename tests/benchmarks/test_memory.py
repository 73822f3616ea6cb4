"""Memory per live book."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_memory_per_live_book() -> None:
    command = [sys.executable, str(Path(__file__).parent / "memory.py"), "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    kib = json.loads(done.stdout)["kib_per_book"]
    print(f"\na live book of 1,000 levels a side: {kib:.0f} KiB resident (budget 400)")
    assert kib > 0
