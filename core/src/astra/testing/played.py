"""Recordings and played answers: what a venue's tests need without a venue.

`Recordings` reads files of recorded frames and answers, `RecordingOutlet` keeps what a session does on its connection,
`PlayedHttp` answers requests as a test says. All of it is sans-I/O: a recorded capture tests a feed fully.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx

from astra.streams.feed import Channel


class Recordings:
    """A folder of captures: `<name>.jsonl` has a line of `meta`, then a frame a line (`at`, `direction` sent or
    received, `url`, `text`); `rest/<name>.json` an answer with `meta`, `request`, `status`, `body`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def rest(self, name: str) -> Any:
        """A REST capture."""
        return json.loads((self.root / "rest" / f"{name}.json").read_text(encoding="utf-8"))

    def body(self, name: str) -> bytes:
        """The body of a REST capture, as the venue would send it."""
        body = self.rest(name)["body"]
        return body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def names(self, pattern: str = "*") -> list[str]:
        """The REST captures whose names match."""
        return sorted(path.stem for path in (self.root / "rest").glob(f"{pattern}.json"))

    def stream(self, name: str) -> tuple[Any, list[Any]]:
        """(`meta`, frames) of a stream capture."""
        lines = (self.root / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return json.loads(lines[0])["meta"], [json.loads(line) for line in lines[1:]]

    def received(self, name: str) -> list[bytes]:
        """The text frames that the venue sent."""
        return [frame["text"].encode() for frame in self.stream(name)[1] if frame["direction"] == "received"]

    def file(self, name: str) -> Any:
        """Any JSON file of the folder."""
        return json.loads((self.root / name).read_text(encoding="utf-8"))


class RecordingInput:
    """Whatever a session delivers for one channel, as (method, arguments): stands for a book, trades or account
    input."""

    def __init__(self, market: str = "") -> None:
        self.market = market
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.calls.append((name, args))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of the method."""
        return [args for called, args in self.calls if called == name]

    @property
    def account_events(self) -> list[Any]:
        """Everything that was told of an account, in order."""
        return [event for (events,) in self.of("events") for event in events]

    @property
    def all_trades(self) -> list[Any]:
        """All trades, in order."""
        return [trade for (trades,) in self.of("trades") for trade in trades]


class RecordingOutlet:
    """A connection (`astra.streams.feed.Outlet`) that keeps what its session asks for. An input handed in beforehand
    (`outlet.inputs[channel] = BookSync(...)`) takes the place of the recording one."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.inputs: dict[Channel, Any] = {}
        self.acks: list[Channel] = []
        self.refusals: list[tuple[Channel, Any, bool]] = []
        self.reconnects: list[tuple[str, bool]] = []
        self.voids: list[str] = []

    def _input(self, channel: Channel) -> Any:
        return self.inputs.setdefault(channel, RecordingInput(channel.market.symbol if channel.market else ""))

    book = trades = account = _input

    def send(self, frame: Any, *, urgent: bool = False) -> None:
        self.sent.append(frame)

    def acknowledged(self, channels: Iterable[Channel]) -> None:
        self.acks.extend(channels)

    def refused(self, channel: Channel, reason: Any, *, final: bool = True) -> None:
        self.refusals.append((channel, reason, final))

    def reconnect(self, reason: str, *, overlap: bool = False) -> None:
        self.reconnects.append((reason, overlap))

    def void(self, reason: str) -> None:
        self.voids.append(reason)


class PlayedHttp:
    """A venue over HTTP: answers by (method, path), and the requests that came in. Hand it to a venue or an
    `HttpClient` as `httpx.MockTransport(played)`."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: dict[tuple[str, str], list[Any]] = {}

    def answer(self, method: str, path: str, body: Any, status: int = 200, **headers: str) -> None:
        """Answer the next such request (the last one given, all further ones) with JSON or bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault((method, path), []).append((status, content, names))

    def lose(self, method: str, path: str) -> None:
        """The next such request is received, its answer is not."""
        self.answers.setdefault((method, path), []).append(None)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        key = (request.method, request.url.path)
        waiting = self.answers.get(key)
        if not waiting:
            return httpx.Response(404, json={"code": -404, "msg": f"nobody answers {key}"})
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if answer is None:
            raise httpx.ReadError("cut")
        status, content, headers = answer
        return httpx.Response(status, content=content, headers=headers)

    def asked(self, method: str, path: str) -> list[dict[str, str]]:
        """The parameters of all such requests (query, else form body), in wire order."""
        return [
            dict(parse_qsl((request.url.query or request.content).decode(), keep_blank_values=True))
            for request in self.requests
            if (request.method, request.url.path) == (method, path)
        ]

    def sent(self, method: str, path: str) -> list[Any]:
        """The JSON bodies of all such requests."""
        return [
            json.loads(request.content)
            for request in self.requests
            if (request.method, request.url.path) == (method, path)
        ]
