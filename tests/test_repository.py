"""What must hold for the repository as a whole: packaging, honesty about dependencies, nothing that leaks."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

DISTRIBUTIONS = sorted(
    path.parent for pattern in ("core", "astra_*", "plugins/*") for path in ROOT.glob(f"{pattern}/pyproject.toml")
)

VENUES = [folder for folder in DISTRIBUTIONS if folder.parent == ROOT and folder.name != "core"]

NEEDED_UNIMPORTED = {
    "astra-gateway": {"websockets": "uvicorn's websockets-sansio protocol, chosen by name"},
}
"""Dependencies that no import statement shows: distribution -> what it declares all the same, and why."""

each_distribution = pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)


@cache
def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(folder: Path) -> str:
    return str(project(folder)["project"]["name"])


def package_of(folder: Path) -> Path:
    (package,) = (path for path in (folder / "src").iterdir() if path.is_dir() and (path / "__init__.py").exists())
    return package


def modules(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(package_of(folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"), str(path))


def declared(folder: Path) -> tuple[set[str], set[str]]:
    """(distributions that are always installed with it, those of its extras)."""
    table = project(folder)["project"]
    extras = (text for texts in table.get("optional-dependencies", {}).values() for text in texts)
    return (
        {canonicalize_name(Requirement(text).name) for text in table["dependencies"]},
        {canonicalize_name(Requirement(text).name) for text in extras},
    )


def imported_at_run_time(tree: ast.AST) -> Iterator[str]:
    """Top-level names of the modules that `tree` imports, but for those that only a type checker imports."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from imported_at_run_time(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield str(node.module).partition(".")[0]
        else:
            yield from imported_at_run_time(node)


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def tracked_texts() -> Iterator[tuple[str, str]]:
    for path in tracked_files():
        try:
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@each_distribution
def test_a_distribution_declares_exactly_what_it_imports(folder: Path) -> None:
    # Editable installs list no modules: what is ours is known by its folder.
    distribution_of = dict(importlib.metadata.packages_distributions())
    distribution_of |= {package_of(other).name: [name_of(other)] for other in DISTRIBUTIONS}
    own = package_of(folder).name
    used: dict[str, str] = {}
    for path, tree in modules(folder):
        for module in imported_at_run_time(tree):
            if module in sys.stdlib_module_names or module == own:
                continue
            owners = distribution_of.get(module)
            assert owners, f"{path.relative_to(ROOT)} imports {module}, which is not installed"
            used[canonicalize_name(owners[0])] = f"{path.relative_to(ROOT)} (module {module})"
    always, extra = declared(folder)
    undeclared = {name: where for name, where in used.items() if name not in always | extra}
    assert not undeclared, f"{name_of(folder)} imports what it does not declare"
    unused = always - used.keys() - NEEDED_UNIMPORTED.get(name_of(folder), {}).keys()
    assert not unused, f"{name_of(folder)} declares what it does not import"


@each_distribution
def test_dependencies_have_lower_bounds_only(folder: Path) -> None:
    for text in project(folder)["project"]["dependencies"]:
        operators = [specifier.operator for specifier in Requirement(text).specifier]
        assert operators == [">="], text


@each_distribution
def test_a_distribution_is_complete(folder: Path) -> None:
    table = project(folder)
    assert table["build-system"]["build-backend"] == "hatchling.build"
    assert table["project"]["requires-python"] == ">=3.11"
    assert table["project"]["license"] == "MIT"
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert name_of(folder) in (folder / "README.md").read_text(encoding="utf-8")
    assert (package_of(folder) / "py.typed").is_file()
    assert table["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/{package_of(folder).name}"]


def test_versions_agree() -> None:
    versions = {name_of(folder): project(folder)["project"]["version"] for folder in DISTRIBUTIONS}
    assert len(set(versions.values())) == 1, versions
    for folder in DISTRIBUTIONS:
        for path, tree in modules(folder):
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
                    assert ast.literal_eval(node.value) == versions[name_of(folder)], path


@each_distribution
def test_entry_points_name_objects_that_exist(folder: Path) -> None:
    for group, entries in project(folder)["project"].get("entry-points", {}).items():
        for name, target in entries.items():
            entry = importlib.metadata.EntryPoint(name, target, group)
            assert entry.load() is not None


def test_what_is_missing_is_named_with_what_to_install() -> None:
    """Core's directory and the command line know every plugin of the repository by name."""
    from astra.directory import known_frontends, known_middleware, known_venues
    from astra_cli.main import KNOWN_ELSEWHERE

    offered: dict[str, dict[str, str]] = {}
    for folder in DISTRIBUTIONS:
        for group, names in project(folder)["project"].get("entry-points", {}).items():
            offered.setdefault(group, {}).update(dict.fromkeys(names, name_of(folder)))
    commands = {name: owner for name, owner in offered["astra.commands"].items() if owner != "astra-cli"}
    assert commands == KNOWN_ELSEWHERE
    assert offered["astra.frontends"] == known_frontends()
    assert offered["astra.middleware"] == known_middleware()
    assert offered["astra.venues"].items() <= known_venues().items()


def test_every_distribution_is_installed_checked_and_listed_everywhere() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for folder in DISTRIBUTIONS:
        path = folder.relative_to(ROOT).as_posix()
        assert f"-e ./{path}" in requirements
        assert tox.count(f"{path}/src") == 2, f"tox.ini: lint and types miss {path}"
        assert f"{path}/src" in settings["tool"]["mypy"]["mypy_path"]
        assert package_of(folder).name in settings["tool"]["importlinter"]["root_packages"]
        assert f"`{name_of(folder)}`" in readme, "README's table of distributions"


def test_every_venue_and_front_end_keeps_the_import_rules() -> None:
    contracts = {
        contract["name"]: contract
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
            "contracts"
        ]
    }
    packages = {package_of(folder).name for folder in DISTRIBUTIONS} - {"astra"}
    venues = {package_of(folder).name for folder in VENUES}
    assert set(contracts["Core imports no plugin"]["forbidden_modules"]) == packages
    assert set(contracts["A venue imports only core"]["source_modules"]) == venues
    assert set(contracts["A venue imports only core"]["forbidden_modules"]) == packages - venues
    front = contracts["A front-end, and the sandbox's server, import no venue"]
    assert set(front["source_modules"]) == packages - venues
    assert set(front["forbidden_modules"]) == venues
    assert set(contracts["No venue imports another"]["modules"]) == venues


@pytest.mark.parametrize("folder", VENUES, ids=lambda folder: folder.name)
def test_a_venue_and_its_sandbox_share_no_code_so_that_neither_proves_itself(folder: Path) -> None:
    package = package_of(folder)
    sandbox = f"{package.name}.sandbox"
    for path, _ in modules(folder):
        inside = path.relative_to(package).parts[0] in ("sandbox", "sandbox.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                if node.module == package.name:
                    named = named[1:]
            for name in named:
                if name.partition(".")[0] == package.name:
                    assert (f"{name}.".startswith(f"{sandbox}.")) == inside, f"{path.relative_to(ROOT)} imports {name}"


def test_libraries_do_not_print() -> None:
    for folder in DISTRIBUTIONS:
        for path, tree in modules(folder):
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id != "print", f"{path.relative_to(ROOT)}:{node.lineno} prints"


def test_no_path_of_a_machine_is_in_the_repository() -> None:
    places = "|".join(("root", "home", "Users", "work", "tmp"))
    path_of_a_machine = re.compile(rf"(?<![\w.:/\-{{}}])/(?:{places})/[\w.]")
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if path_of_a_machine.search(line)
    ]
    assert not found


def test_no_secret_is_in_the_repository() -> None:
    looks_secret = {
        "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY"),
        "cloud key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
        "repository token": re.compile(r"\b(?:ghp|gho|ghs|github_pat|glpat)[_-]\w{20,}"),
        "package index token": re.compile(r"\bpypi-AgE\w{20,}"),
    }
    found = [
        f"{name}: {kind}"
        for name, text in tracked_texts()
        for kind, pattern in looks_secret.items()
        if pattern.search(text) and not name.startswith("tests/")
    ]
    assert not found


def test_no_generated_file_is_tracked() -> None:
    generated = re.compile(r"(^|/)(__pycache__|\.[a-z]+_cache|build|dist|\.tox)/|\.(pyc|egg-info|sqlite3?|db)$")
    assert not [str(path) for path in tracked_files() if generated.search(path.relative_to(ROOT).as_posix())]


def test_test_modules_have_names_of_their_own() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert not [name for name, count in names.items() if count > 1]


def test_the_two_commands_of_the_readme_are_the_promised_ones() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("\n")
    assert "python -m pip install -r requirements.txt && astra demo" in readme
    assert "python -m pip install tox && tox" in readme
