"""A place to install throw-away distributions: real metadata on `sys.path`, found as pip-installed ones are. Venues
that are installed for real are not seen beside them."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from astra.plugins import SANDBOXES, VENUES


class Site:
    """A folder on `sys.path`, like `site-packages`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def install(
        self,
        distribution: str,
        entry_points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> Path:
        """Install a distribution with entry points ({group: {name: target}}) and modules ({name: source})."""
        folder = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = []
        for group, targets in entry_points.items():
            lines.append(f"[{group}]")
            lines.extend(f"{name} = {target}" for name, target in targets.items())
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, source in (modules or {}).items():
            (self.root / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return folder

    def offer(self, group: str, name: str, plugin: Any, distribution: str | None = None) -> None:
        """Install a distribution whose entry point `name` is `plugin`, an object of the test."""
        unique = f"offered_{len(list(self.root.iterdir()))}"
        holder = types.ModuleType(f"{unique}_holder")
        holder.plugin = plugin  # type: ignore[attr-defined]
        sys.modules[f"{unique}_holder"] = holder
        source = f"from {unique}_holder import plugin\n"
        self.install(distribution or f"acme-{unique}", {group: {name: f"{unique}:plugin"}}, {unique: source})


def with_venues_of(root: Path) -> list[importlib.metadata.EntryPoint]:
    """The entry points of the environment, without the venues and sandboxes that are installed outside of `root`."""
    found = importlib.metadata.entry_points()
    return [
        entry_point
        for group in found.groups
        for entry_point in found.select(group=group)
        if group not in (VENUES, SANDBOXES)
        or (entry_point.dist is not None and Path(str(entry_point.dist.locate_file(""))) == root)
    ]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    root = tmp_path / "site"
    root.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr("astra.plugins._environment", lambda: with_venues_of(root))
    yield Site(root)
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if name.startswith("offered_") or str(root) in str(getattr(module, "__file__", "")):
            del sys.modules[name]
