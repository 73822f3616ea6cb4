"""All checks, by their numbers: 1xx the plugin and its markets, 2xx order books by request, 3xx streams, 4xx orders,
5xx accounts, 6xx outcomes and errors, 7xx secrets and cancellation, 8xx recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import astra.testing.conformance.checks.accounts as _accounts
import astra.testing.conformance.checks.books as _books
import astra.testing.conformance.checks.cancellation as _cancellation
import astra.testing.conformance.checks.commands as _commands
import astra.testing.conformance.checks.errors as _errors
import astra.testing.conformance.checks.orders as _orders
import astra.testing.conformance.checks.outcomes as _outcomes
import astra.testing.conformance.checks.plugin as _plugin
import astra.testing.conformance.checks.recordings as _recordings
import astra.testing.conformance.checks.secrets as _secrets
import astra.testing.conformance.checks.streams as _streams
import astra.testing.conformance.checks.trades as _trades
from astra.testing.conformance.catalogue import Check

_MODULES = (
    _plugin,
    _books,
    _streams,
    _trades,
    _orders,
    _commands,
    _accounts,
    _outcomes,
    _errors,
    _secrets,
    _cancellation,
    _recordings,
)

CHECKS: Sequence[Check] = sorted(
    (value for module in _MODULES for value in vars(module).values() if isinstance(value, Check)),
    key=lambda one: one.number,
)
"""Every check, by its number."""

assert max(Counter(one.number for one in CHECKS).values()) == 1, "two checks have one number"
