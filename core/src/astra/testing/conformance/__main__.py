"""Prints all checks as Markdown: `python -m astra.testing.conformance`."""

import sys

from astra.testing.conformance.checks import CHECKS
from astra.testing.conformance.reporting import as_markdown

sys.stdout.write(as_markdown(CHECKS))
