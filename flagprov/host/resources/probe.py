"""The endpoint answers; its apply waits for that, watching the engine's log and its unit."""

from __future__ import annotations

import re
import time

from flagprov.host import engine
from flagprov.host.http import listens
from flagprov.host.resources import unit
from flagprov.host.shell import unit_state
from flagprov.host.standstill import HUNG_S, LIMIT_S
from flagprov.host.wire import Blocked, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERVAL_S = 0.5
MEETING_S = 180.0  # all ranks are staged before the first starts, so whoever is missing then has failed
RETURN_S = 60.0  # for a rank that was there already
PROOF_S = 120.0  # for a new engine's completion: its first ones compile, for minutes where all is compiled
QUIET_S = 60.0  # without a line in the log, which is then said
UNWELL = ("hung", "degraded", "wrong")  # what a restart may mend
BELOW = "the end of its log is below; the replica was stopped"
LONGER = BELOW + "; where it was still at work: a longer deadline, --set deadline_s=N"
LOADING = re.compile(r"Loading (?:\w+ )?(?:checkpoint )?shards:\s+(\d+)%")


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    return engine.state(spec)


def after(spec: dict[str, Any], changed: set[str]) -> dict[str, Any]:
    """How it is after these changes: what was started a moment ago needs no question."""
    if changed & set(spec["after"]) and spec["unit"] in unit.STARTED:
        return {"state": "starting", "detail": "its unit starts it"}
    return observe(spec)


def note(spec: dict[str, Any], observed: dict[str, Any]) -> dict[str, Any]:
    said = {"replica": spec["replica"], "state": observed["state"], "detail": observed["detail"]}
    said["model"] = spec["model"]
    said["probe"] = spec
    if observed["state"] == "ready" and "completion" in observed:
        said.update(
            completion=observed["completion"], port=spec["port"], path=engine.PATHS[spec["readiness"]]
        )
    return said


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    renewed = bool(changed & set(spec["after"]))
    if observed["state"] == "ready" and not renewed:
        return []
    if observed["state"] in UNWELL and not renewed:
        reason = "it is %s: %s" % (observed["state"], observed["detail"])
        may_restart = observed.get("may_restart", True)
        return [("restart", reason, "restart") if may_restart else ("wait", reason, "nothing")]
    return [("wait", "it starts anew" if renewed else "it is %s" % observed["state"], "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> dict[str, Any]:
    """How it is once it is ready."""
    if observed["state"] in UNWELL and spec["unit"] not in unit.STARTED:
        if not observed["may_restart"]:
            return _come_round(spec)
        unit.restart(spec["unit"])
    begun = time.monotonic()
    said = unit_state(spec["unit"])
    restarts = _restarts(said)
    heard = Log(spec["container"])
    alone: float | None = None  # since when this rank waits for others
    stuck: float | None = None  # since when it hangs, and compiles nothing
    limit = max(HUNG_S, spec["deadline_s"] / 10)  # what loads slowly recovers slowly
    before = 0.0  # what the engine before it took to end, in place
    gave_way = False  # that one, and nothing runs yet in its place
    while True:
        asked = time.monotonic()
        now = engine.state(spec, max(LIMIT_S, min(PROOF_S, begun + spec["deadline_s"] - asked)), said)
        if now["state"] == "ready":
            return now
        gave_way = now.get("gives_way", gave_way and now.get("ended", False))
        if gave_way:  # its container may end with it, and that is no death of the new one
            restarts = _restarts(said) + (said.get("SubState") == "auto-restart")
        _fail_when_dead(spec, restarts, now, said)
        alone = _alone_since(now, alone)
        hangs = now["state"] == "hung"
        stuck = (asked if stuck is None else stuck) if hangs and not now.get("may_compile") else None
        if stuck is not None and time.monotonic() - stuck > limit:
            _give_up(spec, "it hangs: %s" % now["detail"])
        patience = RETURN_S if now.get("again") else MEETING_S
        if alone is not None and time.monotonic() - alone > patience:
            _give_up(spec, "%s for %d s; look there first" % (now["detail"], patience))
        waited = time.monotonic() - begun - before
        if now["state"] == "draining":
            before = min(before + waited, spec.get("stop_timeout_s", 120))
        if waited > spec["deadline_s"]:
            _give_up(spec, _late(spec, now["detail"]), LONGER)
        heard.follow(now["detail"] if hangs else "")
        _pause(spec, now, waited)
        said = unit_state(spec["unit"])


def _pause(spec: dict[str, Any], now: dict[str, Any], waited: float) -> None:
    """A whole look is dear for a host that starts an engine: between two of them only its port is tried.

    Longer and longer, as whatever took a minute so far is not there in the next second.
    """
    awaited = now["state"] == "starting" and spec["readiness"] in ("http", *engine.PATHS)
    closed = awaited and not listens(spec["address"], spec["port"])
    interval, step = INTERVAL_S, INTERVAL_S
    if closed:
        interval = min(3.0, max(1.0, waited / 2))
        step = min(INTERVAL_S, max(0.1, waited / 20))
    deadline = time.monotonic() + interval
    while time.monotonic() < deadline:
        time.sleep(step)
        if closed and listens(spec["address"], spec["port"]):
            return


def _come_round(spec: dict[str, Any]) -> dict[str, Any]:
    """It serves, and nobody agreed to its restart: it is given a while, and neither restarted nor stopped."""
    begun = time.monotonic()
    unwell: float | None = begun  # since when without a break; it may have been started anew by its unit
    while True:
        now = engine.state(spec)
        if now["state"] == "ready":
            return now
        at = time.monotonic()
        unwell = (at if unwell is None else unwell) if now["state"] in UNWELL else None
        if at - begun > spec["deadline_s"] or (unwell is not None and at - unwell > HUNG_S):
            message = "it is %s: %s; this plan did not say so, so it was left alone"
            raise Blocked(
                "serve",
                message % (now["state"], now["detail"]),
                "run the command again, whose plan restarts it",
                engine.log_tail(spec["container"]),
                spec["replica"],
            )
        time.sleep(INTERVAL_S)


def _alone_since(now: dict[str, Any], since: float | None) -> float | None:
    """No engine starts before all ranks are there; a rank that failed elsewhere never comes."""
    waits = now["state"] == "starting" and str(now["detail"]).startswith("waiting for ")
    return (since or time.monotonic()) if waits else None


def _restarts(state: dict[str, str]) -> int:
    return int(state.get("NRestarts") or 0)


def _fail_when_dead(spec: dict[str, Any], restarts: int, now: dict[str, Any], state: dict[str, str]) -> None:
    """One death is enough for an engine that this run started; one that heals itself may need several."""
    died = _restarts(state) + (state.get("SubState") == "auto-restart") > restarts
    if (died and spec["unit"] in unit.STARTED) or state.get("ActiveState") in ("failed", "inactive"):
        _give_up(spec, "its engine ended at start%s" % engine.first_error(spec["container"]))
    if now["state"] == "wrong":
        _give_up(spec, now["detail"])


def _late(spec: dict[str, Any], detail: str) -> str:
    """A rank beside the head has nothing to answer with."""
    if spec["readiness"] == "rank":
        said = "the head of %s did not answer within %d s; here %s"
        return said % (spec["replica"], spec["deadline_s"], detail)
    return "it did not answer within %d s: %s" % (spec["deadline_s"], detail)


def _give_up(spec: dict[str, Any], message: str, remedy: str = BELOW) -> None:
    log = engine.log_tail(spec["container"])
    unit.stop_soon(spec["unit"], spec["container"])
    unit.stop(spec["unit"], spec.get("stop_timeout_s", 120))
    raise Blocked("serve", message, remedy, log, spec["replica"])


class Log:
    """What an engine's log says of its start, and that it says nothing for long."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.tail = self.said = ""
        self.looked_at = self.moved_at = time.monotonic()

    def follow(self, standstill: str = "") -> None:
        now = time.monotonic()
        if now - self.looked_at <= 2:
            return
        self.looked_at = now
        tail = engine.log_tail(self.container, 20)
        if tail != self.tail:
            self.tail, self.moved_at = tail, now
        line = shown(tail)
        quiet = int((now - self.moved_at) // QUIET_S * QUIET_S)
        if standstill:
            line = "stalled: %s" % standstill
        elif quiet:
            line = "stalled for %d s: %s" % (quiet, line)
        if line != self.said:
            self.said = line
            progress(line)


def shown(tail: str) -> str:
    """The last line, in fewer words where it tells how much of the weights is there."""
    lines = [line.strip() for line in tail.replace("\r", "\n").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    loading = LOADING.search(last)
    return "loading weights %s %%" % loading.group(1) if loading else last[:200]
