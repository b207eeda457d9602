"""The endpoint answers; its apply waits for that, watching the engine's log and its unit."""

from __future__ import annotations

import time

from flagprov.host import engine
from flagprov.host.resources import unit
from flagprov.host.shell import run, unit_state
from flagprov.host.wire import Blocked, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERVAL_S = 0.5
MEETING_S = 180.0  # all ranks are staged before the first starts, so whoever is missing then has failed


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    return engine.state(spec)


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
    if observed["state"] in ("hung", "degraded", "wrong") and not renewed:
        return [("restart", "it is %s: %s" % (observed["state"], observed["detail"]), "restart")]
    return [("wait", "it starts anew" if renewed else "it is %s" % observed["state"], "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    if observed["state"] in ("hung", "degraded", "wrong"):
        run(["systemctl", "reset-failed", spec["unit"]], timeout=20)
        run(["systemctl", "restart", "--no-block", spec["unit"]], timeout=60)
    begun = time.monotonic()
    restarts = _restarts(spec)
    heard = ""
    said = begun
    alone: float | None = None  # since when this rank waits for others
    while True:
        now = engine.state(spec)
        if now["state"] == "ready":
            return
        _fail_when_dead(spec, restarts, now)
        alone = _alone_since(now, alone)
        if alone is not None and time.monotonic() - alone > MEETING_S:
            _give_up(spec, "%s for %d s; look there first" % (now["detail"], MEETING_S))
        waited = time.monotonic() - begun
        if waited > spec["deadline_s"]:
            _give_up(spec, "it did not answer within %d s: %s" % (spec["deadline_s"], now["detail"]))
        if time.monotonic() - said > 2:
            said = time.monotonic()
            line = _last_line(spec)
            if line != heard:
                progress(line)
            heard = line
        time.sleep(INTERVAL_S)


def _alone_since(now: dict[str, Any], since: float | None) -> float | None:
    """No engine starts before all ranks are there; a rank that failed elsewhere never comes."""
    waits = now["state"] == "starting" and str(now["detail"]).startswith("waiting for ")
    return (since or time.monotonic()) if waits else None


def _restarts(spec: dict[str, Any]) -> int:
    return int(unit_state(spec["unit"]).get("NRestarts") or 0)


def _fail_when_dead(spec: dict[str, Any], restarts: int, now: dict[str, Any]) -> None:
    state = unit_state(spec["unit"])
    died = state.get("SubState") == "auto-restart" or int(state.get("NRestarts") or 0) > restarts
    if died or state.get("ActiveState") in ("failed", "inactive"):
        _give_up(spec, "its engine ended at start%s" % engine.first_error(spec["container"]))
    if now["state"] == "wrong":
        _give_up(spec, now["detail"])


def _give_up(spec: dict[str, Any], message: str) -> None:
    log = engine.log_tail(spec["container"])
    unit.stop_soon(spec["unit"], spec["container"])
    unit.stop(spec["unit"], spec.get("stop_timeout_s", 120))
    raise Blocked(
        "serve", message, "the end of its log is below; the replica was stopped", log, spec["replica"]
    )


def _last_line(spec: dict[str, Any]) -> str:
    lines = engine.log_tail(spec["container"], 1).splitlines()
    return lines[-1][:200] if lines else ""
