"""A host may serve several releases; a rollout measures and judges its own only."""

from types import SimpleNamespace
from typing import Any, cast

from flagprov.models.observed import Running
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options


class Session:
    """Answers as a host that serves two releases, of which the other one is stopped."""

    host = SimpleNamespace(name="h1")

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(payload)
        if payload["op"] == "history":
            entries = [("mine-0", 3), ("other-0", 7)]
            return {"deployments": [{"replica": n, "number": k, "result": "done"} for n, k in entries]}
        if payload["op"] == "measure":
            return {"seconds": [0.1], "errors": [], "texts": ["x"], "tokens_per_s": 1.0}
        states = {"mine": "ready", "other": "stopped"}
        wanted = payload.get("release")
        return {
            "replicas": [
                {"replica": f"{name}-0", "state": state}
                for name, state in states.items()
                if wanted in (None, name)
            ]
        }


def test_another_release_on_the_host_is_left_out_of_figures_soak_and_way_back() -> None:
    running = tuple(
        Running(f"{name}-0", name, "cpu-x86", ("h1",), (0,), port, "running")
        for name, port in (("mine", 9010), ("other", 9011))
    )
    records = {f"{name}-0": {"probe": {"replica": f"{name}-0"}} for name in ("mine", "other")}
    survey = SimpleNamespace(running=running, records=records, facts={})
    nothing = cast(Any, None)
    rolling = Rolling(
        nothing,
        {},
        cast(Any, {"h1": survey}),
        Options(soak_s=0.01),
        cast(Any, SimpleNamespace(wire={})),
        nothing,
        nothing,
        release="mine",
    )
    session = Session()
    assert list(rolling.before(cast(Any, session))) == ["mine-0"]
    assert rolling.good["h1"] == [{"replica": "mine-0", "number": 3}]
    rolling.soak(cast(Any, session))
    assert not [payload for payload in session.asked if payload["op"] == "mark"]
