"""Proves that core and one venue are a whole on their own: `python tests/alone/prove.py astra_binance`.

Built wheels of the two, and nothing else of this repository, go into a fresh virtual environment outside of the
repository; there a program lists markets and streams books (from the sandbox, which runs in this process), and the
venue's tests pass from a copy. In the repository itself a bare folder would import as an empty namespace.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

import anyio
import anyio.to_thread

ROOT = Path(__file__).resolve().parents[2]
MAX_DISTRIBUTIONS = 25
MAX_MEGABYTES = 34.0
"""Binaries of other projects are nearly all of it, cryptography's 14.4 MB and pydantic's 5.4 MB foremost: their
releases move it by a few percent."""
INSTALLERS = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; what it prints. (What it says on stderr is seen as it comes.)"""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{done.stdout}\nalone: {' '.join(map(str, command[:4]))} ... failed with {done.returncode}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """The environment without what would let this environment's or the user's packages and settings in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASTRA_", "PYTHON", "VIRTUAL_ENV", "PYTEST_"))
    }


def build(work: Path, folders: list[Path]) -> list[Path]:
    """Wheels of the distributions in `folders`."""
    wheels = work / "wheels"
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        wheels,
        *folders,
        cwd=work,
    )
    return sorted(wheels.glob("*.whl"))


def fresh_python(work: Path) -> Path:
    venv.create(work / "venv", with_pip=True, symlinks=os.name != "nt")
    return work / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"


def check_lean(python: Path, work: Path, names: set[str]) -> None:
    """Few distributions, few bytes, and of this repository only the two."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=work))
    installed = {entry["name"].lower() for entry in listed} - INSTALLERS
    ours = {name for name in installed if name.startswith("astra")}
    assert ours == names, f"installed of Astra: {sorted(ours)}"
    assert len(installed) <= MAX_DISTRIBUTIONS, f"{len(installed)} distributions: {sorted(installed)}"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=work).strip())
    counted = [
        path
        for path in site.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.relative_to(site).parts[0].split("-")[0] not in INSTALLERS
    ]
    megabytes = sum(path.stat().st_size for path in counted) / 1e6
    print(f"alone: {len(installed)} distributions, {megabytes:.1f} MB: {', '.join(sorted(installed))}")
    assert megabytes <= MAX_MEGABYTES, f"{megabytes:.1f} MB"


async def check_library(python: Path, work: Path, exchange: str) -> None:
    """A program in the fresh environment against the sandbox in this one."""
    from astra_sandbox import Sandbox

    async with Sandbox([exchange]) as sandbox:
        settings = json.dumps(sandbox.settings)
        program = work / "library_only.py"
        shutil.copy(ROOT / "tests" / "alone" / "library_only.py", program)
        told = await anyio.to_thread.run_sync(
            lambda: run(python, program, exchange, settings, cwd=work, env=clean_environment())
        )
    print(f"alone: {told.strip()}")


def needs(path: Path) -> set[str]:
    """The packages that a test module or conftest imports by their top-level names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def copy_tests(source: Path, target: Path, absent: set[str]) -> int:
    """Copy the tests that need nothing absent (what needs the sandbox is proved elsewhere); how many modules."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    for path in sorted(target.rglob("*.py")):
        if path.exists() and (missing := needs(path) & absent):
            print(f"alone: without {path.relative_to(target)}: it needs {', '.join(sorted(missing))}")
            if path.name == "conftest.py" and path.parent != target:
                shutil.rmtree(path.parent)
            else:
                path.unlink()
    return len(list(target.rglob("test_*.py")))


def check_tests(python: Path, work: Path, package: str) -> None:
    """The venue's own tests, from a copy."""
    copy = work / "repository"
    tests = f"tests/{package.removeprefix('astra_')}"
    folders = (path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
    number = copy_tests(ROOT / tests, copy / tests, {*folders, "ccxt"})
    assert number, f"{tests} holds no test that the venue can pass alone"
    shutil.copy(ROOT / "pyproject.toml", copy)
    if (ROOT / "tests" / "conftest.py").exists():
        shutil.copy(ROOT / "tests" / "conftest.py", copy / "tests")
    if (shared := ROOT.parent / "shared").exists():
        (work / "shared").symlink_to(shared)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    run(python, "-m", "pip", "install", "--quiet", *groups["alone"], cwd=work)
    print(run(python, "-m", "pytest", "-q", "-n", "2", tests, cwd=copy, env=clean_environment()))


def main(package: str) -> None:
    folders = [ROOT / "core", ROOT / package]
    projects = [tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"] for folder in folders]
    (exchange,) = projects[1]["entry-points"]["astra.venues"]
    with tempfile.TemporaryDirectory(prefix="astra-alone-") as name:
        work = Path(name).resolve()
        assert ROOT not in work.parents, "the proof must run outside of the repository"
        wheels = build(work, folders)
        python = fresh_python(work)
        run(python, "-m", "pip", "install", "--quiet", *wheels, cwd=work)
        check_lean(python, work, {project["name"] for project in projects})
        anyio.run(check_library, python, work, exchange)
        check_tests(python, work, package)


if __name__ == "__main__":
    main(sys.argv[1])
