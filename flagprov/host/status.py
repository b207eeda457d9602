"""How each of our replicas on this host is, and what its engine says."""

from __future__ import annotations

import os

from flagprov.host import docker, engine
from flagprov.host.http import NoAnswer, get_json
from flagprov.host.operators import operators
from flagprov.host.shell import AtOnce, unit_state
from flagprov.host.slots import CONTAINER, in_place, unit_name
from flagprov.host.survey import records, replicas
from flagprov.host.wire import Blocked, event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


UNPROVED = "no gate has proved what runs: a run is at work, or did not come to its end and deploy does"


def status(request: dict[str, Any]) -> dict[str, Any]:
    """Every replica that has a container or a record here."""
    found = [each for each in replicas() if request.get("release") in (None, each["release"])]
    if not found:
        return {"replicas": []}
    from flagprov.host.history import unproved

    known, never = records(), unproved()
    answers = []
    with AtOnce({_unit(replica) for replica in found}):
        for replica in found:
            said = _judge(replica, known.get(replica["replica"]) or {})
            more = _second(replica) or (UNPROVED if replica["replica"] in never else "")
            said["detail"] = "; ".join(filter(None, (said["detail"], more)))
            answers.append(dict(replica, **said))
    return {"replicas": answers}


def _unit(replica: dict[str, Any]) -> str:
    return unit_name(str(replica["replica"]) + str(replica.get("slot", "")))


def _second(replica: dict[str, Any]) -> str:
    """Never unnoticed: two engines of one replica."""
    other = replica.get("beside")
    if not other:
        return ""
    name = CONTAINER + str(other["replica"]) + str(other.get("slot", ""))
    if other["state"] == "running" != replica["state"]:
        text = "%s serves in its place: a rollout was cut off, and no gate has proved that one; deploy does"
        return text % name
    text = "a second container of it is %s (%s): a rollout is at work, or was cut off and deploy removes it"
    return text % (other["state"], name)


def _judge(replica: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    spec = record.get("probe")
    if not spec:
        unit = unit_state(_unit(replica))
        return {
            "state": "failed",
            "detail": "it has no record; its unit is %s" % unit.get("ActiveState"),
            "model": "",
        }
    now = engine.state(spec)
    version = ""
    if now["state"] in ("ready", "hung", "degraded") and spec["readiness"] != "rank":
        try:
            version = str(get_json(spec["address"], spec["port"], "/version").get("version", ""))
        except NoAnswer:
            pass
    shown = "failed" if now["state"] == "wrong" else now["state"]
    return {
        "state": shown,
        "detail": now["detail"],
        "model": spec["model"]
        if spec["model"] in now.get("models", ())
        else ", ".join(now.get("models", ())),
        "engine_version": version,
        "operators": operators(spec) if now["state"] not in ("absent", "stopped") else None,
    }


def logs(request: dict[str, Any]) -> dict[str, Any]:
    """Pass on the log of a container or a replica, line by line; with follow until the connection ends."""
    import subprocess

    container = str(request.get("container") or CONTAINER + in_place(str(request["replica"])))
    if not docker.container(container):
        raise Blocked("logs", "no container %s" % container, "flagprov status shows what runs here")
    argv = ["docker", "logs", "--tail", str(int(request.get("lines", 100)))]
    argv += ["--follow"] if request.get("follow") else []
    with subprocess.Popen(
        argv + [container],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                event("note", "serve", "log", line.rstrip("\n"))
        except BrokenPipeError:
            os._exit(0)
        finally:
            process.kill()
    return {}
