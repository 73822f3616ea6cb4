"""What a check is, and how it can end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NoReturn

import msgspec


class Level(StrEnum):
    """What a venue owes."""

    MUST = "MUST"
    """Every venue that implements the hooks concerned keeps the rule."""
    MAY = "MAY"
    """A venue need not offer it: the table then says "not offered". What it offers must work."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "n/a"
    NOT_OFFERED = "not offered"


class Mismatch(AssertionError):
    """The venue breaks the rule; the text says what was expected and what was seen."""


class NotApplicable(Exception):
    """The rule does not concern this venue (or segment); the text says why."""


class NotOffered(Exception):
    """The venue does not offer what a MAY check looks for."""


class Check(msgspec.Struct, frozen=True):
    """One rule and how it is proven. `number` is stable: it is never given to another rule."""

    number: int
    level: Level
    title: str
    rule: str
    """What the check proves, and how."""
    run: Callable[..., Any]
    hooks: Sequence[str] = ()
    """The venue hooks without which there is nothing to check."""
    each: bool = False
    """Is it run once for each segment (product and kind of contract)?"""
    together: bool = False
    """Is it run once, with a finding for each segment?"""
    kinds: Sequence[str] = ()
    """The kinds of contract that it concerns (none: all)."""
    bench: bool = True
    """Does it need the running sandbox?"""
    recordings: bool = False
    timeout_s: float = 20.0
    """For the whole check, or for each segment."""

    @property
    def name(self) -> str:
        """The check as a pytest item is called."""
        return f"c{self.number}_{self.run.__name__}"


def check(
    number: int,
    level: Level,
    title: str,
    rule: str,
    *,
    hooks: Sequence[str] = (),
    each: bool = False,
    together: bool = False,
    kinds: Sequence[str] = (),
    bench: bool = True,
    recordings: bool = False,
    timeout_s: float = 20.0,
) -> Callable[[Callable[..., Any]], Check]:
    """Make a check of a function that takes the bench (and the segment, with `each`).

    It raises `Mismatch`, `NotApplicable` or `NotOffered`; a text that it returns stands in the report.
    """

    def made(run: Callable[..., Any]) -> Check:
        return Check(
            number=number,
            level=level,
            title=title,
            rule=" ".join(rule.split()),
            run=run,
            hooks=hooks,
            each=each,
            together=together,
            kinds=kinds,
            bench=bench,
            recordings=recordings,
            timeout_s=timeout_s,
        )

    return made


class Finding(msgspec.Struct):
    """How a check, or one segment of it, ended and why."""

    outcome: Outcome
    reason: str = ""


class Verdict(msgspec.Struct):
    """How a check ended at a venue."""

    venue: str
    number: int
    level: Level
    title: str
    rule: str
    outcome: Outcome
    reason: str
    segments: dict[str, Finding]
    seconds: float
    plugin: str = ""
    """The distribution that was checked, as text."""


def expect(condition: object, what: str) -> None:
    """Fail with `what` unless the condition holds."""
    if not condition:
        raise Mismatch(what)


def expect_equal(what: str, seen: object, expected: object) -> None:
    """Fail with both values unless they are equal."""
    if seen != expected:
        raise Mismatch(f"{what}: expected {shown(expected)}, seen {shown(seen)}")


def expect_close(what: str, seen: float, expected: float) -> None:
    """Like `expect_equal`, up to the last digits of a double."""
    if not close(seen, expected):
        raise Mismatch(f"{what}: expected {shown(expected)}, seen {shown(seen)}")


def close(one: float, other: float) -> bool:
    """Equal up to the rounding of a few operations on doubles."""
    return one == other or abs(one - other) <= 1e-12 * max(abs(one), abs(other))


def fail(what: str) -> NoReturn:
    raise Mismatch(what)


def shown(value: object, most: int = 300) -> str:
    """A value as failures print it."""
    text = str(value) if isinstance(value, str) and value and value.isprintable() and " " not in value else repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
