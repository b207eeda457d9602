"""Long questions renew the lease of the run that asks them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.host import lease, main
from flagprov.host.wire import Blocked, Newer

LEASE = {"token": "t", "ttl_s": 60.0}


@pytest.mark.parametrize(("op", "module"), [("measure", "gate"), ("status", "status")])
def test_a_lease_is_renewed_while_a_replica_is_measured(
    monkeypatch: pytest.MonkeyPatch, op: str, module: str
) -> None:
    told: list[Any] = []

    def tell(request: dict[str, Any]) -> dict[str, Any]:
        told.append(request.get("token") or request)
        return {}

    monkeypatch.setattr(lease, "take", tell)
    monkeypatch.setitem(sys.modules, f"flagprov.host.{module}", SimpleNamespace(**{op: tell}))
    main.answer({"op": op, "lease": dict(LEASE)})
    main.answer({"op": op})
    assert told == ["t", {"op": op}, {"op": op}]


def test_state_of_a_newer_flagprov_is_told_from_other_trouble() -> None:
    assert Newer("lease", "newer").wire()["kind"] == "version"
    assert "kind" not in Blocked("lease", "held").wire()
