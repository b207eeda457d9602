"""A lease on a host: one holder, and no trace of it where flagprov was taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagprov.host import lease
from flagprov.host.wire import Blocked


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lease, "STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def wish(token: str) -> dict[str, object]:
    return {"token": token, "holder": token, "command": "deploy", "since": "now", "ttl_s": 60}


def test_one_holder_at_a_time() -> None:
    lease.answer({"do": "take", "lease": wish("a")})
    with pytest.raises(Blocked, match="held by a since now: deploy"):
        lease.answer({"do": "take", "lease": wish("b")})
    lease.answer({"do": "release", "token": "a"})
    lease.answer({"do": "take", "lease": wish("b")})
    held = lease.current()
    assert held and held["holder"] == "b"


def test_a_heartbeat_brings_back_nothing_that_was_taken_away(state: Path) -> None:
    lease.answer({"do": "take", "lease": wish("a")})
    for path in state.iterdir():
        path.unlink()
    state.rmdir()
    lease.answer({"do": "renew", "lease": wish("a")})
    lease.answer({"do": "release", "token": "a"})
    assert not state.exists()
