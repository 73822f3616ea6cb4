"""How a check ended, in words: from exceptions to findings."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Sequence

import anyio

from astra.errors import AstraError, UnsupportedOperation
from astra.testing.conformance.catalogue import Finding, Mismatch, NotApplicable, NotOffered, Outcome
from astra.testing.conformance.segments import Segment


async def together(segments: Sequence[Segment], work: Callable[[Segment], Awaitable[str | None]]) -> dict[str, Finding]:
    """Do the work for all segments at the same time; each has its own finding."""
    found: dict[str, Finding] = {}

    async def one(segment: Segment) -> None:
        try:
            found[segment.name] = Finding(Outcome.PASSED, await work(segment) or "")
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is how the check ended
            found[segment.name] = finding_of(error)

    async with anyio.create_task_group() as tasks:
        for segment in segments:
            tasks.start_soon(one, segment)
    return {segment.name: found[segment.name] for segment in segments}


def worse(one: dict[str, Finding], other: dict[str, Finding]) -> dict[str, Finding]:
    """Two findings for each segment as one: the first that failed, else the first."""
    return {
        name: other[name]
        if other[name].outcome is Outcome.FAILED and finding.outcome is not Outcome.FAILED
        else finding
        for name, finding in one.items()
    }


def leaf(error: BaseException) -> BaseException:
    """The first single exception of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def finding_of(error: BaseException) -> Finding:
    error = leaf(error)
    if isinstance(error, NotApplicable):
        return Finding(Outcome.NOT_APPLICABLE, str(error))
    if isinstance(error, NotOffered):
        return Finding(Outcome.NOT_OFFERED, str(error))
    if isinstance(error, UnsupportedOperation):
        return Finding(Outcome.NOT_APPLICABLE, f"the venue refuses it: {error}")
    if isinstance(error, Mismatch):
        return Finding(Outcome.FAILED, str(error))
    return Finding(Outcome.FAILED, told(error))


def told(error: BaseException) -> str:
    """An unexpected exception in words, with the place where it was raised."""
    error = leaf(error)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, AstraError):
        return f"{text} (raised at {where(error)})"
    lines = "".join(traceback.format_exception(error, limit=-4))
    return f"{text}\n{lines}"


def where(error: BaseException, depth: int = 3) -> str:
    """The innermost places of an exception's traceback outside of the event loop's own code."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in ("/asyncio/", "/anyio/", "\\asyncio\\", "\\anyio\\"))
    ]
    shown = [
        f"{frame.filename.rpartition('site-packages')[2]}:{frame.lineno} {frame.name}" for frame in frames[-depth:]
    ]
    return " > ".join(shown) or "an unknown place"


def summed(segments: dict[str, Finding]) -> Finding:
    """One ending for all segments: a failure anywhere is one, and passed is what passed somewhere."""
    for outcome in (Outcome.FAILED, Outcome.PASSED, Outcome.NOT_OFFERED, Outcome.NOT_APPLICABLE):
        there = {name: finding for name, finding in segments.items() if finding.outcome is outcome}
        if there:
            reasons = [f"{name}: {finding.reason}" for name, finding in there.items() if finding.reason]
            return Finding(outcome, "\n".join(reasons))
    return Finding(Outcome.NOT_APPLICABLE, "there is no segment")
