"""Which test imports hypothesis first must not matter."""

from __future__ import annotations

import subprocess
import sys


def test_hypothesis_is_imported_before_the_first_test() -> None:
    assert "hypothesis" in sys.modules  # by conftest.py: nothing here imports it


def test_imported_late_it_does_not_see_who_holds_the_random_generator_of_trio() -> None:
    """The reason for the above. Should this fail one day, the import in conftest.py is needed no longer."""
    late = "import gc, trio; gc.freeze(); import hypothesis"
    run = subprocess.run([sys.executable, "-W", "error", "-c", late], capture_output=True, text=True, check=False)
    assert "register_random" in run.stderr
