"""An instance of the template unit: enabled, and running its container."""

from __future__ import annotations

import os
import time

from flagprov.host.shell import run, unit_state
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


UNITS = "/etc/systemd/system"
WANTS = ("multi-user.target.wants", "docker.service.wants")  # as the template says
NOT_LOADED = 5  # systemctl's code for a unit that systemd does not know
RUNNING = ("active", "activating", "reloading")  # or about to: a back-off counts
STARTED: set[str] = set()  # by this run; whoever waits for one of these need not bear with it


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    state = unit_state(spec["unit"])
    return {
        "loaded": state.get("LoadState") == "loaded",
        "active": state.get("ActiveState", "unknown"),
        "enabled": enabled(spec["unit"]),
    }


def enabled(unit: str) -> bool:
    """By what a boot will find: of a unit that is loaded, systemd says what was so before the last reload."""
    return any(os.path.islink(os.path.join(UNITS, folder, unit)) for folder in WANTS)


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    changes = []
    running = observed["active"] in RUNNING
    if not spec["active"]:
        if running or observed["active"] == "failed":
            changes.append(("stop", "it is %s" % observed["active"], "restart"))
        if observed["enabled"]:
            changes.append(("disable", "it would start at boot", "nothing"))
        return changes
    if not observed["enabled"] and spec.get("enabled", True):
        changes.append(("enable", "it has to come back after a reboot", "nothing"))
    renewed = sorted(changed & set(spec.get("after", ())))
    if not running:
        changes.append(("start", "it is %s" % observed["active"], "restart"))
    elif renewed:
        changes.append(("restart", "changed: %s" % ", ".join(renewed), "restart"))
    return changes


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    unit = spec["unit"]
    if not spec["active"]:
        stop(unit, spec.get("stop_timeout_s", 120))
        _systemctl("disable", "--no-reload", unit)
        run(["systemctl", "reset-failed", unit], timeout=20)
        return
    if "enable" in observed["to_do"]:
        _systemctl("enable", "--no-reload", unit)  # a reload takes the GPUs from running containers
    if not observed["to_do"] & {"start", "restart"}:
        return
    _start(unit, "restart" if observed["active"] == "active" or "restart" in observed["to_do"] else "start")


def restart(unit: str) -> None:
    """Ends what runs, in an orderly way where that is possible."""
    _start(unit, "restart")


def begins(unit: str) -> None:
    """A new engine: failures of the one before count no more, for systemd's limit and for a back-off."""
    run(["systemctl", "reset-failed", unit], timeout=20)
    STARTED.add(unit)


def _start(unit: str, verb: str) -> None:
    begins(unit)
    # Never waits: the probe after it watches the start, and a lost connection does not end it.
    _systemctl(verb, "--no-block", unit)


def stop(unit: str, timeout_s: float) -> None:
    """Stop and wait; the unit's own ExecStop gives the engine its time to drain. None need be there."""
    _systemctl("stop", unit, timeout=timeout_s + 30, fine=NOT_LOADED)


def stop_soon(unit: str, container: str, patience_s: float = 10.0) -> None:
    """End what never answered: there is nothing to drain, and a hung engine would use up all its grace."""
    _systemctl("stop", "--no-block", unit)
    deadline = time.monotonic() + patience_s
    while unit_state(unit).get("ActiveState") in ("active", "deactivating", "activating"):
        if time.monotonic() > deadline:
            run(["docker", "kill", container], timeout=30)
            return
        time.sleep(0.2)


def forget() -> None:
    """Let systemd forget a removed unit; running containers would lose their GPUs, so they come first."""
    running = run(["docker", "ps", "--quiet"], timeout=30)
    if running.code == 0 and not running.out.strip():
        _systemctl("daemon-reload")


def _systemctl(verb: str, *arguments: str, timeout: float = 60, fine: int = 0) -> None:
    answer = run(["systemctl", verb] + list(arguments), timeout=timeout)
    if answer.code not in (0, fine):
        unit = arguments[-1] if arguments else "systemd"
        raise Blocked(
            "unit", "systemctl %s %s: %s" % (verb, unit, answer.err.strip()), "journalctl -u %s" % unit
        )
