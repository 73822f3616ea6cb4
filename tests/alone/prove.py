"""Proves that core and one venue are a whole on their own, for every venue: `python tests/alone/prove.py [FOLDER ...]`.

Built wheels of the two, and nothing else of this repository, go into a fresh virtual environment outside of the
repository; there a program lists markets and streams books (from the sandbox, which runs in this process), and those of
the venue's tests that need nothing else pass from a copy. In the repository itself a bare folder would import as an
empty namespace. A folder that declares no venue (`astra.venues`) is passed over.

Wheels, ours and those that ours need, are gathered once; the environments are made from them, two at a time.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
MAX_DISTRIBUTIONS = 25
MAX_MEGABYTES = 34.0
"""Binaries of other projects are nearly all of it, cryptography's 14.4 MB and pydantic's 5.4 MB foremost: their
releases move it by a few percent."""
INSTALLERS = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


class Disproved(Exception):
    """The venue is no whole on its own, and why."""


class Venue(NamedTuple):
    """A folder that declares a venue."""

    package: str
    distribution: str
    exchange: str


def declared(folder: Path) -> Venue | None:
    """The venue of a distribution's folder, None if it declares none."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    venues = project.get("entry-points", {}).get("astra.venues", {})
    if not venues:
        return None
    (exchange,) = venues
    return Venue(folder.name, project["name"], exchange)


async def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command; what it prints. Raises `Disproved` with its output when it fails."""
    words = [str(part) for part in command]
    done = await anyio.run_process(words, cwd=cwd, env=env, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Disproved(f"{done.stdout.decode()}\n{' '.join(words[:6])} ... failed with {done.returncode}")
    return done.stdout.decode()


def clean_environment() -> dict[str, str]:
    """The environment without what would let this environment's or the user's packages and settings in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASTRA_", "PYTHON", "VIRTUAL_ENV", "PYTEST_"))
    }


async def gather(work: Path, folders: Sequence[Path], tools: Sequence[str]) -> Path:
    """A folder of wheels: of the distributions in `folders`, of `tools`, and of all that they need."""
    built, wheels = work / "built", work / "wheels"
    await run(*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", built, *folders, cwd=work)
    await run(*PIP, "download", "--quiet", "-d", wheels, *sorted(built.glob("*.whl")), *tools, cwd=work)
    return wheels


class Proof:
    """The proof of one venue, in a folder of its own; `told` is what it found."""

    def __init__(self, venue: Venue, work: Path, wheels: Path) -> None:
        self.venue = venue
        self.work = work
        self.wheels = wheels
        self.told: list[str] = []
        self.python = work / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"

    async def run(self, tools: Sequence[str]) -> None:
        """Raises `Disproved`."""
        self.work.mkdir()
        # pip stays outside and installs into it: what is in there is the venue's alone.
        await anyio.to_thread.run_sync(lambda: venv.create(self.work / "venv", symlinks=os.name != "nt"))
        await self.pip("install", "astra-api", self.venue.distribution)
        await self.check_lean()
        await self.check_library()
        await self.pip("install", *tools)
        await self.check_tests()

    async def pip(self, action: str, *words: str) -> str:
        found = (
            ["--quiet", "--no-index", "--no-compile", "--find-links", str(self.wheels)] if action == "install" else []
        )
        return await run(*PIP, "--python", self.python, action, *found, *words, cwd=self.work)

    async def check_lean(self) -> None:
        """Few distributions, few bytes, and of this repository only the two."""
        listed = json.loads(await self.pip("list", "--format=json"))
        installed = {entry["name"].lower() for entry in listed} - INSTALLERS
        ours = {name for name in installed if name.startswith("astra")}
        if ours != {"astra-api", self.venue.distribution}:
            raise Disproved(f"installed of Astra: {sorted(ours)}")
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path((await run(self.python, "-c", where, cwd=self.work)).strip())
        megabytes = await anyio.to_thread.run_sync(megabytes_in, site)
        names = ", ".join(sorted(installed))
        self.told.append(f"{len(installed)} distributions, {megabytes:.1f} MB: {names}")
        if len(installed) > MAX_DISTRIBUTIONS or megabytes > MAX_MEGABYTES:
            raise Disproved(
                f"{len(installed)} distributions, {megabytes:.1f} MB: {names}\n"
                f"at most {MAX_DISTRIBUTIONS} and {MAX_MEGABYTES} MB are allowed"
            )

    async def check_library(self) -> None:
        """A program in the fresh environment against the sandbox in this one."""
        from astra_sandbox import Sandbox

        exchange = self.venue.exchange
        async with Sandbox([exchange]) as sandbox:
            settings = json.dumps(sandbox.settings)
            program = self.work / "library_only.py"
            shutil.copy(ROOT / "tests" / "alone" / "library_only.py", program)
            told = await run(self.python, program, exchange, settings, cwd=self.work, env=clean_environment())
        self.told.append(told.strip())

    async def check_tests(self) -> None:
        """The venue's own tests, from a copy; not the slow ones."""
        copy = self.work / "repository"
        tests = f"tests/{self.venue.package.removeprefix('astra_')}"
        folders = (path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
        if not self.copy_tests(ROOT / tests, copy / tests, {*folders, "ccxt"}):
            raise Disproved(f"{tests} holds no test that the venue can pass alone")
        shutil.copy(ROOT / "pyproject.toml", copy)
        shutil.copy(ROOT / "tests" / "conftest.py", copy / "tests")
        shutil.copytree(ROOT / "tests" / "loopback", copy / "tests" / "loopback")
        if (shared := ROOT.parent / "shared").exists():
            (self.work / "shared").symlink_to(shared)
        command = (self.python, "-m", "pytest", "-q", "-m", "not slow", "-k", "not trio", tests)
        told = await run(*command, cwd=copy, env=clean_environment())
        self.told.append(told.strip().splitlines()[-1])

    def copy_tests(self, source: Path, target: Path, absent: set[str]) -> int:
        """Copy the tests that need nothing absent (what needs the sandbox is proved elsewhere); how many modules."""
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for path in sorted(target.rglob("*.py")):
            if path.exists() and (missing := needs(path) & absent):
                self.told.append(f"without {path.relative_to(target)}: it needs {', '.join(sorted(missing))}")
                if path.name == "conftest.py" and path.parent != target:
                    shutil.rmtree(path.parent)
                else:
                    path.unlink()
        return len(list(target.rglob("test_*.py")))


def megabytes_in(site: Path) -> float:
    """What is installed there, without installers and what Python compiles itself."""
    counted = [
        path
        for path in site.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.relative_to(site).parts[0].split("-")[0] not in INSTALLERS
    ]
    return sum(path.stat().st_size for path in counted) / 1e6


def needs(path: Path) -> set[str]:
    """The packages that a test module or conftest imports by their top-level names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


async def prove(venues: Sequence[Venue], work: Path) -> Sequence[str]:
    """Prove all of them; the packages that are no whole."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["alone"]
    wheels = await gather(work, [ROOT / "core", *(ROOT / venue.package for venue in venues)], tools)
    slots = anyio.CapacityLimiter(AT_ONCE)
    failed: list[str] = []

    async def one(venue: Venue) -> None:
        async with slots:
            began = time.monotonic()
            proof = Proof(venue, work / venue.package, wheels)
            try:
                await proof.run(tools)
            except Disproved as error:
                failed.append(venue.package)
                proof.told.append(f"FAILED: {error}")
            proof.told.append(f"{time.monotonic() - began:.0f} s")
            print("".join(f"{venue.package}: {line}\n" for line in proof.told), flush=True)

    async with anyio.create_task_group() as tasks:
        for venue in venues:
            tasks.start_soon(one, venue)
    return failed


def main(names: Sequence[str]) -> None:
    folders = [ROOT / name for name in names] or sorted(path.parent for path in ROOT.glob("astra_*/pyproject.toml"))
    venues: list[Venue] = []
    for folder in folders:
        venue = declared(folder)
        if venue is None:
            print(f"{folder.name}: passed over, it declares no venue")
        else:
            venues.append(venue)
    with tempfile.TemporaryDirectory(prefix="astra-alone-") as name:
        work = Path(name).resolve()
        assert ROOT not in work.parents, "the proof must run outside of the repository"
        failed = anyio.run(prove, venues, work)
    if failed:
        sys.exit(f"no whole on their own: {', '.join(failed)}")
    print(f"{len(venues)} venues are a whole on their own")


if __name__ == "__main__":
    main(sys.argv[1:])
