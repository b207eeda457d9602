"""Is it serving? Ready means that it answers: the right model, and a completion when it is idle."""

from __future__ import annotations

import re
import time

from flagprov.host import docker, launched
from flagprov.host.http import Late, NoAnswer, get_json, parse, request
from flagprov.host.operators import missing
from flagprov.host.shell import run, unit_state
from flagprov.host.standstill import LIMIT_S, Standstill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROOF_TOKENS = 8
COUNTER = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|prompt_tokens_total|generation_tokens_total"
    r"|kv_cache_usage_perc|gpu_cache_usage_perc|request_success_total)"
    r"(?:\{(?![^}]*\"abort\")[^}]*\})?\s+(\S+)",  # success_total counts those that were cut, too
    re.M,
)
PATHS = {"chat": "/v1/chat/completions", "completion": "/v1/completions"}


def counters(address: str, port: int) -> dict[str, float]:
    """Sums over the engine's processes; empty where it has no such metrics."""
    try:
        code, body = request(address, port, "/metrics", timeout=5)
    except NoAnswer:
        return {}
    return sums(body) if code == 200 else {}


def sums(body: bytes) -> dict[str, float]:
    """Counters of a scrape, summed over the engine's processes."""
    found: dict[str, float] = {}
    for name, value in COUNTER.findall(body.decode(errors="replace")):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def completion(
    spec: dict[str, Any], tokens: int, timeout: float, prompt: str = "Say hello."
) -> dict[str, Any]:
    """One timed completion; raises NoAnswer."""
    body: dict[str, Any] = {"model": spec["model"], "max_tokens": tokens, "temperature": 0}
    if spec["readiness"] == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    begun = time.monotonic()
    code, answer = request(spec["address"], spec["port"], PATHS[spec["readiness"]], body, timeout)
    data = parse(code, answer)
    seconds = time.monotonic() - begun
    try:
        choice = data["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        if data["usage"]["completion_tokens"] < 1:
            raise NoAnswer("the completion has no tokens")
    except (KeyError, IndexError, TypeError):
        raise NoAnswer("the completion is not one: %s" % answer[:200].decode(errors="replace")) from None
    return {"request": body, "text": text or "", "seconds": round(seconds, 3), "model": data.get("model", "")}


def state(
    spec: dict[str, Any], patience_s: float = LIMIT_S, unit: dict[str, str] | None = None
) -> dict[str, Any]:
    """One of ready, starting, hung, failed, stopped, absent, wrong; with a detail in words.

    `patience_s` is what a completion of an idle one may take; `unit` what systemd said of it just now.
    """
    found = docker.container(spec["container"])
    unit = unit_state(spec["unit"]) if unit is None else unit
    if not found:
        return {"state": "absent", "detail": "no container %s" % spec["container"]}
    if unit.get("ActiveState") == "failed":
        return {"state": "failed", "detail": "its unit gave up: %s" % unit.get("Result", "")}
    if not found["State"]["Running"]:
        return dict(_ended(found, unit), ended=True)
    if found["State"].get("Paused"):
        return {"state": "hung", "detail": "its container is paused"}
    said = launched.said(spec["container"], found, spec.get("launcher", ""))
    if launched.silent(said) and (spec.get("launcher") or not said["follows"]):
        return {"state": "hung", "detail": "its launcher has not moved for %.0f s" % said["age_s"]}
    gives_way = not said.get("follows", True)
    if said.get("phase") == "stopping":
        return {"state": "draining", "detail": said["reason"] or "its engine ends", "gives_way": gives_way}
    if gives_way:
        detail = "its launcher has yet to take up its configuration"
        return {"state": "starting", "detail": detail, "gives_way": True}
    if not spec.get("launcher"):
        now = _serving(spec, patience_s)
        if now["state"] == "starting":
            now["detail"] = said.get("reason") or now["detail"]
        return _with_operators(spec, now)
    rank = _rank(said)
    rank["again"] = said.get("again") or 0
    if rank["state"] == "ready" and spec["readiness"] != "rank":
        serving = _serving(spec, patience_s)
        rank.update(serving, detail=serving["detail"] or rank["detail"])
    return _with_operators(spec, rank)


def _ended(found: dict[str, Any], unit: dict[str, str]) -> dict[str, Any]:
    """A container that does not run; `wait` may take a while before its unit starts it once more."""
    code = found["State"]["ExitCode"]
    failures = int(unit.get("NRestarts") or 0)
    if unit.get("SubState") == "auto-restart" or (failures and unit.get("SubState") == "start-pre"):
        return {"state": "failed", "detail": "its engine ended with code %d; its unit comes back" % code}
    if unit.get("ActiveState") in ("active", "activating"):
        return {"state": "starting", "detail": "its unit is starting it"}
    return {"state": "stopped", "detail": "its unit is %s" % unit.get("ActiveState", "unknown")}


def _rank(said: dict[str, Any]) -> dict[str, Any]:
    """What a rank's launcher says of its own node."""
    if said.get("junk"):
        return {"state": "wrong", "detail": said["reason"]}
    phase, reason = said.get("phase"), said.get("reason") or ""
    if phase == "ended":
        return {"state": "failed", "detail": "%s; its unit comes back" % reason}
    if said.get("stopped"):
        return {
            "state": "hung",
            "detail": "stopped processes: %s" % ", ".join(map(str, said["stopped"]))[: launched.LONGEST],
        }
    if phase != "running":
        return {"state": "starting", "detail": reason or "its engine is starting"}
    ray = said.get("ray")
    if not ray:
        return {"state": "ready", "detail": ""}
    detail = "Ray has %d of %d nodes" % (ray["nodes"], ray["of"])
    return {"state": "ready" if ray["nodes"] >= ray["of"] else "degraded", "detail": detail}


def _with_operators(spec: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """An engine that serves with other operators than were asked for is not what was deployed."""
    lacking = missing(spec) if now["state"] == "ready" else ""
    return dict(now, state="wrong", detail=lacking) if lacking else now


def _serving(spec: dict[str, Any], patience_s: float) -> dict[str, Any]:
    if spec["readiness"] == "command":
        answer = run(["docker", "exec", spec["container"], *spec["command"]], timeout=60)
        return {"state": "ready" if answer.code == 0 else "starting", "detail": answer.err.strip()[-200:]}
    try:
        if spec["readiness"] == "http":
            code, _ = request(spec["address"], spec["port"], spec["path"])
            return {"state": "ready" if code == 200 else "starting", "detail": "HTTP %d" % code}
        models = get_json(spec["address"], spec["port"], "/v1/models")
        names = [str(entry["id"]) for entry in models["data"]]
    except NoAnswer as error:
        return {"state": "starting", "detail": str(error)}
    except (KeyError, TypeError):
        return {"state": "wrong", "detail": "something else than an OpenAI API answers there"}
    if spec["model"] not in names:
        return {
            "state": "wrong",
            "detail": "it serves %s, not %s" % (", ".join(names), spec["model"]),
            "models": names,
        }
    return _answering(spec, names, patience_s)


def _answering(spec: dict[str, Any], names: list[str], patience_s: float) -> dict[str, Any]:
    """By its counters while it has requests, else by a completion of ours."""
    still = Standstill()
    still.saw(counters(spec["address"], spec["port"]), time.monotonic())
    if still.requests:
        return dict(_at_work(spec, still), models=names)
    try:
        proof = completion(spec, PROOF_TOKENS, timeout=patience_s)
        return {"state": "ready", "detail": "", "models": names, "completion": proof}
    except Late as late:  # others may have come after the look at its counters
        fails = {"state": "degraded", "detail": "a completion fails: %s" % late}
        return dict(_at_work(spec, still, fails), models=names)
    except NoAnswer as error:
        return {"state": "degraded", "detail": "a completion fails: %s" % error, "models": names}


def _at_work(spec: dict[str, Any], still: Standstill, late: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ready when a token is made or nothing is left to do, hung when not; `late`: ours was not answered."""
    busy = {"state": "ready", "detail": "busy"}
    deadline = time.monotonic() + LIMIT_S + 1
    while time.monotonic() < deadline:
        now = counters(spec["address"], spec["port"])
        if now:
            still.saw(now, time.monotonic(), ours=1 if late else 0)
            if still.moved or not still.requests:
                return busy
            if still.seconds >= LIMIT_S:
                return {"state": "hung", "detail": still.words(), "may_compile": not still.worked}
        elif late:
            return late  # it has no counters, or does not say them
        time.sleep(0.5)
    return busy


def first_error(container: str) -> str:
    """`: SomeError: why` from the last start's log; later errors only follow from the first."""
    found = docker.container(container)
    since = launched.said(container, found).get("started_at", launched.started(found)) if found else 0
    answer = run(["docker", "logs", "--since", "%.3f" % since, container], timeout=30)
    for line in (answer.out + answer.err).splitlines():
        error = re.search(r"\b((?:\w+\.)*\w*(?:Error|Exception): .+)", line)
        if error and "WARNING" not in line:
            return ": " + error.group(1)[:300]
    return ""


def log_tail(container: str, lines: int = 30) -> str:
    answer = run(["docker", "logs", "--tail", str(lines), container], timeout=20)
    return (answer.out + answer.err).strip()[-6000:]
