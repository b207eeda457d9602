"""Whether what was deployed here is still what it was, whole, and answers; changes nothing."""

from __future__ import annotations

from flagprov.host import engine, history, jobs
from flagprov.host.converge import look
from flagprov.host.resources import weights
from flagprov.host.survey import records
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def verify(request: dict[str, Any]) -> dict[str, Any]:
    """Each replica with its state, its answer, and what is wrong: `{"step", "message", "remedy"}`."""
    seen: dict[str, list[dict[str, str]]] = {}
    answers = []
    for name, record in sorted(records().items()):
        replica = record["replica"]
        if request.get("release") not in (None, replica["release"]):
            continue
        now = engine.state(record["probe"])
        path = str(record["weights"])
        if path not in seen:
            files = request.get("files", {}).get(replica["release"], [])
            seen[path] = _weights(path, files, bool(request.get("deep")))
        wrong = _drift(name) + seen[path]
        if now["state"] != "ready":
            detail = now["detail"] or "no more is known"
            wrong.append(_wrong("endpoint", "%s is %s: %s" % (name, now["state"], detail), "flagprov logs"))
        shown = "failed" if now["state"] == "wrong" else now["state"]
        answer = dict(replica, state=shown, detail=now["detail"], model=record["probe"]["model"], wrong=wrong)
        if now.get("completion"):
            answer["completion"] = now["completion"]
        answers.append(answer)
    return {"replicas": answers}


def _wrong(step: str, message: str, remedy: str) -> dict[str, str]:
    return {"step": step, "message": message, "remedy": remedy}


def _drift(name: str) -> list[dict[str, str]]:
    """What differs from the deployment that served last; an endpoint speaks for itself."""
    try:
        seen = look({"resources": history.chosen([{"replica": name, "number": "last"}])})
    except Blocked as problem:
        return [_wrong(problem.step, problem.message, problem.remedy)]
    found = [
        _wrong("drift", "%s: %s" % (change["name"], change["reason"]), "flagprov deploy puts it right")
        for change in seen["changes"]
        if change["kind"] not in ("probe", "weights")
    ]
    problems = [p for p in seen["problems"] if p["step"] != "weights"]
    return found + [_wrong(p["step"], p["message"], p["remedy"]) for p in problems]


def _weights(path: str, files: list[Any], deep: bool) -> list[dict[str, str]]:
    remedy = "flagprov deploy brings what is missing; a changed file is to be removed first"
    found = weights.observe({"path": path, "files": files})
    if not found["exists"]:
        return [_wrong("weights", "%s is not there" % path, remedy)]
    faults = list(found["faults"])
    if deep and not faults:
        try:
            faults = list(jobs.run_job("hash", {"path": path, "files": files})["faults"])
        except Blocked as problem:
            return [_wrong(problem.step, problem.message, problem.remedy)]
    return [_wrong("weights", "%s: %s" % (path, fault), remedy) for fault in faults]
