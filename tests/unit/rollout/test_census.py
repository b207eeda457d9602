"""What a budget is a share of: the whole inventory, whatever --limit says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from flagprov.errors import UnreachableError
from flagprov.models.desired import Replica
from flagprov.models.observed import Running
from flagprov.rollout.census import Census, count
from flagprov.site import Site


def running(name: str, release: str = "m", state: str = "running") -> Running:
    return Running(name, release, "c", (), (0,), 9010, state)


def test_all_that_was_deployed_counts_and_what_is_left_out_is_lost(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.remember(Replica(f"{r}-{i}", r, "c", (f"h{i}",), (0,), 9010) for r in "mo" for i in range(4))
    assert count(site, "m", {"h3"}, {}) == Census(frozenset({"m-0", "m-1", "m-2", "m-3"}), frozenset({"m-3"}))


def test_hosts_beyond_the_limit_are_counted_by_what_they_say(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.remember(Replica(f"m-{i}", "m", "c", (f"h{i}",), (0,), 9010) for i in range(2))
    said = SimpleNamespace(
        running=(running("m-8"), running("m-9", state="exited"), running("o-0", "o", "exited"))
    )
    asked: Any = {"h1": UnreachableError("h1", "connect", "no answer"), "h9": said}
    found = count(site, "m", (), cast(Any, asked))
    assert found == Census(frozenset({"m-0", "m-1", "m-8", "m-9"}), frozenset({"m-1", "m-9"}))
