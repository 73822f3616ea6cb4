"""The public sockets: subscriptions, in-band snapshots, pings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from astra.sandbox import Link, SandboxSession
from astra.sandbox.toolkit import EventRate
from astra_htx.sandbox.hub import BadTopic, FeedKey, Hub
from astra_htx.sandbox.limits import SandboxLimits
from astra_htx.sandbox.wire import Family, zipped


class Heartbeat:
    """The venue's own pings: sent at intervals, and counted while they are not answered."""

    def __init__(self, every_ms: int, most_unanswered: int, now_ms: int) -> None:
        self._every_ms = every_ms
        self._most = most_unanswered
        self._due = now_ms + every_ms
        self._open: list[str] = []

    def turn(self, now_ms: int) -> str | None:
        """The stamp of the ping that is due, if one is. Raises `ConnectionAbortedError` for a dead client."""
        if now_ms < self._due:
            return None
        if len(self._open) >= self._most:
            raise ConnectionAbortedError
        self._due = now_ms + self._every_ms
        self._open.append(str(now_ms))
        return self._open[-1]

    def answered(self, stamp: Any) -> None:
        """A pong counts if it repeats the stamp of a ping; it then answers the earlier ones too."""
        if str(stamp) in self._open:
            del self._open[: self._open.index(str(stamp)) + 1]


class MarketSession(SandboxSession):
    """`/ws`, `/feed`, `/swap-ws`, `/linear-swap-ws`: binary gzip out, text in."""

    def __init__(
        self,
        family: Family,
        link: Link,
        *,
        hub: Hub,
        limits: SandboxLimits,
        feed_socket: bool,
        now_ms: Callable[[], int],
        advance: Callable[[int], None],
    ) -> None:
        self._family = family
        self._link = link
        self._hub = hub
        self._feed_socket = feed_socket
        self._now_ms = now_ms
        self._advance = advance
        self._subscribed: dict[tuple[str, bool], FeedKey] = {}
        spot = family is Family.SPOT
        unanswered = limits.spot_unanswered_pings if spot else limits.contract_unanswered_pings
        self._heartbeat = Heartbeat(limits.market_ping_ms, unanswered, now_ms())
        self._subs = None if spot else EventRate(limits.contract_subs_per_second)
        self._reqs = EventRate(1, limits.spot_req_spacing_ms) if spot else EventRate(limits.contract_reqs_per_second)

    def deliver(self, frame: bytes) -> None:
        self._link.send(frame)

    def _say(self, body: Any) -> None:
        self._link.send(zipped(body))

    def received(self, payload: str | bytes) -> None:
        now_ms = self._now_ms()
        self._advance(now_ms)
        try:
            frame = json.loads(payload)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            self._refuse(None, "not json string", now_ms)
        elif "pong" in frame:
            self._heartbeat.answered(frame["pong"])
        elif "ping" in frame:
            self._say({"pong": frame["ping"]})
        elif "sub" in frame:
            topics = frame["sub"] if isinstance(frame["sub"], list) else [frame["sub"]]
            for topic in topics:
                self._subscribe(str(topic), frame, now_ms)
        elif "unsub" in frame:
            self._unsubscribe(str(frame["unsub"]), frame, now_ms)
        elif "req" in frame:
            self._request(str(frame["req"]), frame, now_ms)
        else:
            self._refuse(frame.get("id"), "invalid command", now_ms)

    def _refuse(self, request_id: Any, message: str, now_ms: int) -> None:
        body = {"ts": now_ms, "status": "error", "err-code": "bad-request", "err-msg": message}
        self._say(body if request_id is None else body | {"id": request_id})

    @staticmethod
    def _incremental(frame: dict[str, Any]) -> bool:
        return bool(frame.get("data_type") == "incremental")

    def _subscribe(self, topic: str, frame: dict[str, Any], now_ms: int) -> None:
        if self._subs is not None and self._subs.exceeded(now_ms):
            self._refuse(frame.get("id"), "429 too many request", now_ms)
            return
        incremental = self._incremental(frame)

        def acknowledge() -> None:
            more = {"data_type": "incremental"} if incremental else {}
            self._say(self._ack("subbed", topic, frame, now_ms) | more)

        try:
            self._subscribed[topic, incremental] = self._hub.subscribe(
                self._family,
                topic,
                self,
                feed_socket=self._feed_socket,
                incremental=incremental,
                now_ms=now_ms,
                acknowledge=acknowledge,
            )
        except BadTopic as refusal:
            self._refuse(frame.get("id"), str(refusal), now_ms)

    @staticmethod
    def _ack(verb: str, topic: str, frame: dict[str, Any], now_ms: int) -> dict[str, Any]:
        """The id comes back as it was given, number or text; a client that gave none gets none."""
        identity = {"id": frame["id"]} if "id" in frame else {}
        return identity | {"status": "ok", verb: topic, "ts": now_ms}

    def _unsubscribe(self, topic: str, frame: dict[str, Any], now_ms: int) -> None:
        key = self._subscribed.pop((topic, self._incremental(frame)), None)
        if key is None:
            self._refuse(frame.get("id"), f"unsub with not subbed topic {topic}", now_ms)
            return
        self._hub.unsubscribe(key, self)
        self._say(self._ack("unsubbed", topic, frame, now_ms))

    def _request(self, topic: str, frame: dict[str, Any], now_ms: int) -> None:
        if self._reqs.exceeded(now_ms):
            self._refuse(frame.get("id"), "429 too many request", now_ms)
            return
        try:
            if not self._feed_socket:
                raise BadTopic(f"invalid topic {topic}")
            snapshot = self._hub.snapshot(topic)
        except BadTopic as refusal:
            self._refuse(frame.get("id"), str(refusal), now_ms)
            return
        request_id = json.dumps(frame.get("id", ""))
        self._say(f'{{"id":{request_id},"rep":"{topic}","status":"ok","ts":{now_ms},"data":{snapshot}}}')

    def tick(self, now_ms: int) -> None:
        self._advance(now_ms)
        try:
            stamp = self._heartbeat.turn(now_ms)
        except ConnectionAbortedError:
            self._link.close(1000, "")
            return
        if stamp is not None:
            self._say({"ping": int(stamp)})

    def closed(self) -> None:
        for key in self._subscribed.values():
            self._hub.unsubscribe(key, self)
        self._subscribed.clear()
