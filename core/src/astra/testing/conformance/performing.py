"""Running checks: each within its time, each segment on its own, every ending told in words."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal

from astra.testing.conformance.bench import Bench, OfflineGuard, running_bench
from astra.testing.conformance.catalogue import (
    Check,
    Finding,
    Level,
    Mismatch,
    NotApplicable,
    NotOffered,
    Outcome,
    Verdict,
)
from astra.testing.conformance.endings import finding_of, summed, told, where
from astra.testing.conformance.subjects import Subject

START_S = 60.0
STUCK_S = 15.0
"""So long after its time is over a check may take to be cancelled."""


class Stuck(Exception):
    """The venue's event loop does not answer any more."""


class LoopThread:
    """An event loop in a thread that does not keep the process from ending."""

    def __init__(self) -> None:
        self._ready: queue.SimpleQueue[BlockingPortal] = queue.SimpleQueue()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve,), name="astra-conformance", daemon=True)
        self._thread.start()
        self.portal = self._ready.get(timeout=START_S)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._ready.put(portal)
            await portal.sleep_until_stopped()

    def stop(self) -> None:
        self.portal.call(self.portal.stop)
        self._thread.join(STUCK_S)


class VenueRun:
    """One venue under check: its thread with an event loop, its bench on it, made when the first check needs it."""

    def __init__(self, subject: Subject, guard: OfflineGuard) -> None:
        self.subject = subject
        self._guard = guard
        self._loop: LoopThread | None = None
        self._bench_scope: AbstractContextManager[Bench] | None = None
        self._bench: Bench | None = None
        self._broken: str | None = None

    def perform(self, check: Check) -> Verdict:
        """Run one check."""
        began = time.monotonic()
        segments: dict[str, Finding] = {}
        try:
            finding = self._performed(check, segments)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is how the check ended
            finding = finding_of(error)
        if segments:
            finding = summed(segments)
        return Verdict(
            venue=self.subject.code,
            number=check.number,
            level=check.level,
            title=check.title,
            rule=check.rule,
            outcome=finding.outcome,
            reason=finding.reason,
            segments=segments,
            seconds=round(time.monotonic() - began, 3),
            plugin=self.subject.origin,
        )

    def _performed(self, check: Check, segments: dict[str, Finding]) -> Finding:
        if check.recordings:
            if not self.subject.recordings:
                raise NotApplicable("no recordings are handed in")
            if self.subject.feed is None:
                raise NotApplicable("recordings are handed in without `feed`, which makes the venue's feed")
            return finished(check.run(self.subject, segments))
        if not check.bench:
            return finished(check.run(self.subject))
        if self.subject.sandbox is None:
            raise NotApplicable("the venue has no sandbox (entry-point group astra.sandboxes)")
        bench = self._begun()
        missing = [hook for hook in check.hooks if not bench.has(hook)]
        if missing:
            kind = NotOffered if check.level is Level.MAY else NotApplicable
            raise kind(f"the venue does not implement {', '.join(missing)}")
        assert self._loop is not None
        places = [s for s in bench.segments if not check.kinds or s.kind in check.kinds] if check.each else [None]
        if not places:
            raise NotApplicable(f"the venue lists no {' or '.join(check.kinds) or 'active'} market")
        for place in places:
            arguments = () if place is None else (place,)
            future = self._loop.portal.start_task_soon(one, check, bench, arguments, segments)
            finding = self._awaited(future, check)
            if place is None:
                if finding.outcome is not Outcome.PASSED:
                    segments.clear()
                return finding
            segments[place.name] = finding
        return summed(segments)

    def _awaited(self, future: Future[Finding], check: Check) -> Finding:
        try:
            return future.result(check.timeout_s + STUCK_S)
        except FutureTimeout:
            self._broken = f"the event loop hangs since check {check.number}"
            raise Mismatch(
                f"not done within {check.timeout_s + STUCK_S:g} s, and not to be cancelled: the event loop is blocked, "
                "or a cancellation is swallowed"
            ) from None
        except CancelledError:
            self._broken = f"the sandbox ended during check {check.number}"
            raise Mismatch("the sandbox (or its engine) failed while the check ran") from None

    def _begun(self) -> Bench:
        if self._broken is not None:
            raise Mismatch(f"not run: {self._broken}")
        if self._bench is not None:
            return self._bench
        try:
            self._loop = LoopThread()
            self._bench_scope = self._loop.portal.wrap_async_context_manager(running_bench(self.subject, self._guard))
            self._bench = self._bench_scope.__enter__()
        except Exception as error:
            self._broken = f"the venue could not be started on its sandbox: {told(error)}"
            raise Mismatch(self._broken) from error
        return self._bench

    def end(self) -> None:
        """Stop everything. What goes wrong then is raised, unless the loop hangs already."""
        scope, self._bench_scope = self._bench_scope, None
        loop, self._loop = self._loop, None
        bench, self._bench = self._bench, None
        if loop is None or (self._broken is not None and bench is not None):
            return  # a loop that hangs ends with the process
        try:
            if scope is not None and bench is not None:
                scope.__exit__(None, None, None)
        finally:
            loop.stop()


def finished(answer: Any) -> Finding:
    """A check that needs no event loop has run."""
    return answer if isinstance(answer, Finding) else Finding(Outcome.PASSED, answer or "")


async def one(check: Check, bench: Bench, arguments: Iterable[Any], segments: dict[str, Finding]) -> Finding:
    """One run of a check, and the tidying after it. A check that gives a finding for each segment fills `segments`."""
    waiting = ""
    finding = Finding(Outcome.PASSED)
    failures_before = len(bench.server.failures(bench.code))
    with anyio.move_on_after(check.timeout_s) as scope:
        try:
            said: str | dict[str, Finding] | None = await check.run(bench, *arguments)
            if isinstance(said, dict):
                segments.update(said)
            else:
                finding = Finding(Outcome.PASSED, said or "")
        except anyio.get_cancelled_exc_class() as error:
            waiting = where(error)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is how the check ended
            finding = finding_of(error)
    if scope.cancelled_caught:
        finding = Finding(Outcome.FAILED, f"expected to end within {check.timeout_s:g} s, seen waiting at {waiting}")
    failures = bench.server.failures(bench.code)[failures_before:]
    if failures:
        text = "; ".join(told(failure) for failure in failures[:3])
        finding = Finding(Outcome.FAILED, f"{finding.reason}\nthe venue's sandbox itself failed: {text}".strip())
    with anyio.move_on_after(STUCK_S / 3) as scope:
        try:
            await bench.tidy()
        except Exception as error:  # noqa: BLE001 - told
            finding = Finding(Outcome.FAILED, f"{finding.reason}\nafter the check: {told(error)}".strip())
    return finding
