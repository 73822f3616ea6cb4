"""The documentation holds: links resolve, code compiles, examples marked `<!-- run -->` run against the sandbox.

A marked Python block runs as a program of its own, against the sandboxes and a gateway on them: `Astra(...)` and
`Astra.from_config()` find the sandbox, the account's key is in the environment, and the gateway's URL and key stand in
for those that the text shows. `<!-- run for 5 s -->` marks a program that goes on for ever: it is ended so long after
it first said something. Blocks marked `<!-- save: name.py -->` are put beside the programs that follow in the same
document.
"""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import click
import pytest

from astra import Astra
from astra_cli.main import cli
from astra_gateway.keys import Scope
from astra_gateway.plugin import running_gateway
from astra_gateway.settings import GatewaySettings
from astra_sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "core/*.md", "astra_*/*.md", "plugins/*/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>run(?: for (?P<seconds>\d+) s)?|save: (?P<name>[\w.]+)) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
TIMEOUT_S = 60.0


class Block(NamedTuple):
    """A fenced block of code: where it begins, its language, how it is marked."""

    document: Path
    line: int
    language: str
    code: str
    runs: bool
    seconds: int | None
    """Ends only when it is ended, after so long."""
    name: str | None
    """To be saved under this name for the programs that follow."""

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        code = match["code"]
        if match["indent"]:
            code = re.sub(rf"^{match['indent']}", "", code, flags=re.MULTILINE)
        runs = (match["mark"] or "").startswith("run")
        seconds = int(match["seconds"]) if match["seconds"] else None
        yield Block(document, line, match["language"], code, runs, seconds, match["name"])


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as forges make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(document), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


PYTHON = [block for document in DOCUMENTS for block in blocks(document) if block.language == "python"]
SHELL = [
    block
    for document in DOCUMENTS
    for block in blocks(document)
    if block.language in ("sh", "shell", "bash", "console")
]
RUNNABLE = [block for block in PYTHON if block.runs]

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@each_document
def test_links_resolve(document: Path) -> None:
    broken = []
    for match in LINK.finditer(prose(document)):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path = (document.parent / target).resolve() if target else document
        if not path.exists() or ROOT not in (path, *path.parents):
            broken.append(f"{match['target']}: no such file")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            broken.append(f"{match['target']}: no such heading")
    assert not broken


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_python_code_compiles(block: Block) -> None:
    compile(block.code, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands(block: Block) -> Iterator[list[str]]:
    """The `astra ...` commands of a shell block, without what they are piped into."""
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for end in ("|", ">", "&&", "&", ";"):
            if words[:1] == ["astra"] and end in words:
                words = words[: words.index(end)]
        if words[:1] == ["astra"]:
            yield words[1:]
        elif "astra" in words and "&&" in words:
            yield words[words.index("astra") + 1 :]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_commands_exist_with_the_options_shown(block: Block) -> None:
    for arguments in commands(block):
        command: click.Command = cli
        context = click.Context(command, info_name="astra")
        while isinstance(command, click.Group):
            _, arguments, _ = command.make_parser(context).parse_args(list(arguments))
            if not arguments:
                break
            _, found, arguments = command.resolve_command(context, arguments)
            assert found is not None, block.place
            command, context = found, click.Context(found, parent=context)
        else:
            if "--help" not in arguments:
                command.make_context(command.name, list(arguments), parent=context.parent)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Surroundings(NamedTuple):
    """What the examples run against."""

    settings: dict[str, Any]
    environment: dict[str, str]
    gateway_url: str
    gateway_key: str


@pytest.fixture(scope="module")
async def surroundings() -> AsyncIterator[Surroundings]:
    async with Sandbox() as sandbox:
        settings = sandbox.settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ASTRA_")}
        for exchange in sandbox.exchanges:
            key = sandbox.credentials(exchange).keys["default"]
            environment[f"ASTRA_{exchange}_API_KEY"] = key.key.get_secret_value()
            environment[f"ASTRA_{exchange}_API_SECRET"] = key.secret.get_secret_value()
            if key.passphrase is not None:
                environment[f"ASTRA_{exchange}_API_PASSPHRASE"] = key.passphrase.get_secret_value()
            for host, url in settings["venues"][exchange]["hosts"].items():
                environment[f"ASTRA_VENUES__{exchange}__HOSTS__{host.upper()}"] = url
        gateway_settings = GatewaySettings(port=0, database="sqlite://", metrics=False)
        async with (
            Astra.from_config(env=environment) as astra,
            running_gateway(astra, gateway_settings) as gateway,
        ):
            issued = await gateway.keys.create("documentation", Scope.TRADE)
            yield Surroundings(settings, environment, gateway.url, issued.key)


RUNNER = """
import json, runpy, sys
import astra

real = astra.Astra
settings = json.loads(sys.argv[2])


class Astra(real):
    def __init__(self, **arguments):
        if arguments.get("settings") is None:
            arguments["settings"] = settings
        super().__init__(**arguments)


astra.Astra = Astra
program = sys.argv[1]
sys.argv = [program]
runpy.run_path(program, run_name="__main__")
"""
SHOWN_URL = re.compile(r"(?:(?P<socket>ws)|http)://127\.0\.0\.1:8080")
SHOWN_KEY = "kadjfasfl.KjUBAhdIafaDFSCsajfaIowSADxkaw"


def written(block: Block, folder: Path, surroundings: Surroundings) -> list[str]:
    """Write the program and what it needs; the command that runs it."""
    for other in blocks(block.document):
        if other.name is not None and other.line < block.line:
            (folder / other.name).write_text(other.code, encoding="utf-8")
    address = surroundings.gateway_url.removeprefix("http")
    code = SHOWN_URL.sub(lambda match: ("ws" if match["socket"] else "http") + address, block.code)
    program = folder / "example.py"
    program.write_text(code.replace(SHOWN_KEY, surroundings.gateway_key), encoding="utf-8")
    runner = folder / "runner_of_examples.py"
    runner.write_text(RUNNER, encoding="utf-8")
    return [sys.executable, "-u", "-W", "error", str(runner), str(program), json.dumps(surroundings.settings)]


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.place)
async def test_examples_run(block: Block, surroundings: Surroundings, tmp_path: Path) -> None:
    command = written(block, tmp_path, surroundings)
    path = os.pathsep.join([str(tmp_path), surroundings.environment["PYTHONPATH"]])
    environment = surroundings.environment | {"PYTHONPATH": path}
    process = await anyio.open_process(command, cwd=tmp_path, env=environment, stderr=subprocess.STDOUT)
    said = b""
    async with process:
        assert process.stdout is not None
        with anyio.move_on_after(TIMEOUT_S) as patience:
            async for chunk in process.stdout:
                if not said and block.seconds is not None:  # it has begun: a busy machine is no matter of the example
                    patience.deadline = anyio.current_time() + block.seconds
                said += chunk
            await process.wait()
        if patience.cancelled_caught:
            process.kill()
    text = said.decode()
    if block.seconds is None:
        assert process.returncode == 0, f"{block.place}\n{text}"
    else:
        assert patience.cancelled_caught, f"{block.place} ended by itself\n{text}"
    assert text.strip(), f"{block.place}: an example shows something"
    assert "Traceback" not in text, f"{block.place}\n{text}"


def test_the_table_of_venues_is_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "tests/docs/venue_table.py"))
    assert written["PAGE"].read_text(encoding="utf-8") == written["page"](), "run python tests/docs/venue_table.py"
