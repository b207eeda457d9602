"""The gateway's agent: says of each replica whether HAProxy may send it requests.

A replica is out while it is unreachable, or hung: requests run and nothing moves. It is never out
for being busy. What was out comes back by a real completion. HAProxy asks on a loopback port with the
replica's name; `? NAME` asks for the whole truth as JSON.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
import time

from flagprov.host import engine
from flagprov.host.files import read_json
from flagprov.host.http import Late, NoAnswer, request
from flagprov.host.standstill import LIMIT_S, Standstill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SETTINGS = "/etc/flagprov-gateway/settings.json"
BACKENDS = "/var/lib/flagprov-gateway/backends.json"
SILENT = 3  # scrapes in a row that may time out: a busy front process answers late
TOKENS = 4
PROVE_S = 30.0  # an idle one proves itself so often: one that hangs may count no request at all


class Verdict:
    """What is known of one replica; pure but for `prove`, which asks it."""

    def __init__(self, spec: dict[str, Any], standstill_s: float) -> None:
        self.spec = spec
        self.standstill_s = standstill_s
        self.state = "unknown"  # unknown, up, down
        self.detail = "not asked yet"
        self._still = Standstill()
        self._proved_at = 0.0
        self._silent = 0

    def said(self) -> str:
        """HAProxy's word; one that changes nothing while nothing is known, so that a restart harms nobody."""
        return {"up": "up", "down": "down"}.get(self.state, "100%")

    def refused(self, detail: str, at_once: bool) -> None:
        """It did not answer; what is out of reach for long has to prove itself again."""
        self._silent += 1
        self._still.forget()
        if at_once or self._silent >= SILENT:
            self.state, self.detail = "down", detail

    def scraped(self, counters: dict[str, float], now: float) -> bool:
        """Whether a completion has to prove it now; decides by its counters where it is at work."""
        self._silent = 0
        still = self._still
        still.saw(counters, now)
        if still.anew:
            self.state, self.detail = "down", "it was started anew"
        if still.moved:
            self._proved_at = now
        if not still.requests:
            return self.state != "up" or now - self._proved_at >= PROVE_S
        if still.moved:
            self.state, self.detail = "up", "busy"
        elif still.seconds >= self.standstill_s:
            self.state, self.detail = "down", "hung: %s" % still.words()
        return False

    def prove(self) -> None:
        """A real completion where the release has them, else its own path."""
        try:
            if self.spec["readiness"] in engine.PATHS:
                engine.completion(self.spec, TOKENS, timeout=self.standstill_s)
            else:
                code, _ = request(self.spec["address"], self.spec["port"], self.spec.get("path") or "/health")
                if code != 200:
                    raise NoAnswer("HTTP %d" % code)
        except NoAnswer as error:
            if not (isinstance(error, Late) and self._busy()):
                self.state, self.detail = "down", "a completion fails: %s" % error
            return
        self._proved_at = time.monotonic()
        self.state, self.detail = "up", ""

    def _busy(self) -> bool:
        """Whether tokens were made all the same: a burst came after the look at its counters."""
        counters = engine.counters(self.spec["address"], self.spec["port"])
        if not counters:
            return False
        self._still.saw(counters, time.monotonic(), ours=1)
        if self._still.moved:
            self.state, self.detail = "up", "busy"
        return self._still.moved

    def look(self) -> None:
        try:
            code, body = request(self.spec["address"], self.spec["port"], "/metrics", timeout=5)
        except NoAnswer as error:
            self.refused(str(error), at_once="listens" in str(error))
            return
        if self.scraped(engine.sums(body) if code == 200 else {}, time.monotonic()):
            self.prove()


class Watch(threading.Thread):
    """Looks at one replica again and again."""

    def __init__(self, spec: dict[str, Any], settings: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.spec = spec
        self.verdict = Verdict(spec, float(settings.get("standstill_s", LIMIT_S)))
        self.over = threading.Event()
        self._interval_s = float(settings.get("interval_s", 1.0))

    def run(self) -> None:
        while not self.over.is_set():
            before = self.verdict.state
            try:
                self.verdict.look()
            except Exception as error:  # one odd answer must not end the watch
                self.verdict.refused("%s: %s" % (type(error).__name__, error), at_once=False)
            if self.verdict.state != before:
                text = "%s: %s %s\n" % (self.spec["replica"], self.verdict.state, self.verdict.detail)
                sys.stdout.write(text)
                sys.stdout.flush()
            self.over.wait(self._interval_s)


class Watches:
    """One per server of the gateway's file, followed as the file changes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._known: dict[str, Watch] = {}

    def follow(self) -> None:
        wanted = specs(read_json(BACKENDS) or {})
        for name, watch in list(self._known.items()):
            if wanted.get(name) != watch.spec:
                watch.over.set()
                del self._known[name]
        for name, spec in wanted.items():
            if name not in self._known:
                self._known[name] = watch = Watch(spec, self._settings)
                watch.start()

    def answer(self, line: str) -> str:
        full = line.startswith("?")
        watch = self._known.get(line.lstrip("? ").strip())
        if full:
            found = {"state": watch.verdict.state, "detail": watch.verdict.detail} if watch else None
            return json.dumps(found)
        return watch.verdict.said() if watch else "100%"


def specs(backends: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Replica -> how it is reached and proved."""
    found = {}
    for release in backends.get("releases", {}).values():
        for name, server in release["servers"].items():
            keys = ("address", "port", "model", "readiness", "path")
            found[name] = dict({key: server.get(key) for key in keys}, replica=name)
    return found


def main() -> None:
    settings = read_json(SETTINGS) or {}
    watches = Watches(settings)

    class Handler(socketserver.StreamRequestHandler):
        timeout = 5

        def handle(self) -> None:
            try:
                line = self.rfile.readline(512).decode(errors="replace")
                self.wfile.write((watches.answer(line.strip()) + "\n").encode())
            except OSError:
                pass

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(
        ("127.0.0.1", int(settings.get("agent_port", 9199))), Handler
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen = None
        while True:
            try:
                now = os.stat(BACKENDS).st_mtime_ns
            except OSError:
                now = 0
            if now != seen:
                seen = now
                watches.follow()
            time.sleep(0.3)
