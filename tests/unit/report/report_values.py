"""Plain values for the tests of reports and of the command line."""

from __future__ import annotations

from flagprov.models.observed import Change, Problem
from flagprov.models.outcome import Completion, HostOutcome, Outcome, RankStatus, ReplicaStatus
from flagprov.models.plan import Batch, HostPlan, LeftOut, Plan, ReplicaPlan

RELEASE = "qwen3-tiny"


def change(kind: str, name: str, stage: str, action: str, reason: str, cost: str = "nothing") -> Change:
    return Change(kind=kind, name=name, stage=stage, action=action, reason=reason, cost=cost)


def first_steps(replica: str) -> tuple[Change, ...]:
    image = "flagprov-lab/vllm-cpu:0.32.0"
    return (
        change("engine", "docker", "provision", "install", "docker does not answer", "re-provision"),
        change("image", image, "image", "pull", "none of its 2 digests is on the host"),
        change("container", f"flagprov-{replica}", "serve", "create", "it is not there", "new container"),
        change("unit", f"flagprov@{replica}.service", "serve", "start", "it is inactive", "restart"),
        change("probe", replica, "verify", "wait", "no completion since the last start"),
    )


def replica_plan(number: int, steps: tuple[Change, ...] | None = None, pending: str = "") -> ReplicaPlan:
    name = f"{RELEASE}-{number}"
    host = HostPlan(f"lab{number + 1}", first_steps(name) if steps is None else steps, "d1", pending)
    return ReplicaPlan(name, (host,), "new container" if host.steps else "nothing")


def plan(hosts: int = 2, *, changes: bool = True, left_out: tuple[LeftOut, ...] = ()) -> Plan:
    replicas = tuple(replica_plan(n, None if changes else ()) for n in range(hosts))
    return Plan("deploy", RELEASE, (Batch(replicas),), left_out)


def left_out(host: str = "lab3", *, unreachable: bool = True) -> LeftOut:
    message = (
        f"no route to 10.0.0.{host[-1]} port 22" if unreachable else "/ has 1.2 GiB free and needs 7.5 GiB"
    )
    remedy = "Check that it is up, or leave it out with --limit." if unreachable else "Free 6.3 GiB."
    return LeftOut(host, Problem("connect" if unreachable else "disk", message, remedy), unreachable)


def host(number: int, state: str = "changed", **more: object) -> HostOutcome:
    seconds = {"provision": 0.0, "image": 12.4, "config": 0.31, "serve": 41.0 + number, "verify": 1.24}
    values: dict[str, object] = {"changes": 5, "seconds": seconds} if state == "changed" else {}
    return HostOutcome(f"lab{number}", state, **{**values, **more})  # type: ignore[arg-type]


def failed(number: int, message: str = "the engine ended with code 1") -> HostOutcome:
    return host(
        number,
        "failed",
        step="serve",
        message=message,
        remedy="Look at the log, mend it, and run the same command again.",
        log="INFO loading weights\nValueError: max_model_len (999999) is larger than 40960\n",
        seconds={"image": 0.2, "serve": 9.0},
    )


def ready(number: int, **more: object) -> ReplicaStatus:
    values: dict[str, object] = {
        "name": f"{RELEASE}-{number}",
        "release": RELEASE,
        "chip": "cpu-x86",
        "hosts": (f"lab{number + 1}",),
        "endpoint": f"http://172.30.0.{number + 2}:8000",
        "state": "ready",
        "model": "Qwen3-Tiny",
        "engine_version": "0.11.0",
        "ranks": (RankStatus(f"lab{number + 1}", 0, "ready"),),
    }
    return ReplicaStatus(**{**values, **more})  # type: ignore[arg-type]


def completion(number: int = 0) -> Completion:
    request = {
        "model": "Qwen3-Tiny",
        "messages": [{"role": "user", "content": "What's the capital of France?"}],
        "max_tokens": 16,
    }
    endpoint = f"http://172.30.0.{number + 2}:8000"
    return Completion(
        f"lab{number + 1}", f"{RELEASE}-{number}", endpoint, "Qwen3-Tiny", request, " ok\nça", 0.84
    )


def outcome(
    hosts: tuple[HostOutcome, ...] | None = None,
    replicas: tuple[ReplicaStatus, ...] | None = None,
    **more: object,
) -> Outcome:
    values: dict[str, object] = {
        "verb": "deploy",
        "release": RELEASE,
        "hosts": (host(1), host(2)) if hosts is None else hosts,
        "replicas": (ready(0), ready(1)) if replicas is None else replicas,
        "completions": (completion(0), completion(1)),
        "seconds": 57.3,
        "run_directory": "inventory/.flagprov/runs/20261120-133001-deploy",
    }
    return Outcome(**{**values, **more})  # type: ignore[arg-type]
