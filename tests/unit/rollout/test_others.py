"""Replicas of other releases on hosts that a run drains: as long as some can serve, some do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.models.desired import Replica
from flagprov.models.observed import Running
from flagprov.rollout.arrange import Arrangement
from flagprov.rollout.options import Options
from flagprov.rollout.order import Size
from flagprov.rollout.others import notes, spared, taken_whole


def replica(host: str) -> Replica:
    return Replica(f"m-{host}", "m", "cpu-x86", (host,), (0,), 9010)


def surveys(there: Mapping[str, str], state: str = "running") -> Any:
    """Release -> the hosts of each of its replicas, besides `m` on all of them."""
    running: dict[str, list[Running]] = {host: [] for host in "abcd"}
    for release, replicas in {**there, "m": "a b c d"}.items():
        for hosts in replicas.split():
            for host in hosts:
                name = f"{release}-{hosts}"
                running[host].append(Running(name, release, "cpu-x86", tuple(hosts), (1,), 9020, state))
    return {host: SimpleNamespace(running=tuple(found)) for host, found in running.items()}


@pytest.mark.parametrize(
    ("there", "drained", "expected"),
    [
        ({"n": "a b"}, "abcd", {"n": ["a", "b"]}),
        ({"n": "a b"}, "a", {}),
        ({"n": "a b c"}, "abcd", {}),
        ({"n": "d"}, "abcd", {"n": ["d"]}),
        ({"n": "d"}, "ab", {}),
        ({"n": "ac bd"}, "abcd", {"n": ["a", "b", "c", "d"]}),  # each of the two loses a rank
        ({"n": "ab cd"}, "abcd", {}),
        ({}, "abcd", {}),
    ],
)
def test_a_batch_takes_a_release_whole(
    there: Mapping[str, str], drained: str, expected: Mapping[str, Sequence[str]]
) -> None:
    batches = [(replica("a"), replica("b")), (replica("c"), replica("d"))]
    assert taken_whole(batches, drained, surveys(there), "m") == expected
    assert taken_whole(batches, drained, surveys(there, "exited"), "m") == {}


@pytest.mark.parametrize(
    ("there", "sizes", "taken"),
    [
        ({"n": "a b c"}, [2, 2], {}),
        ({"n": "a b"}, [1, 1, 1, 1], {}),
        ({"n": "a"}, [1, 1, 1, 1], {"n": ["a"]}),
    ],
)
def test_batches_are_smaller_where_that_spares_another_release(
    there: Mapping[str, str], sizes: Sequence[int], taken: Mapping[str, Sequence[str]]
) -> None:
    replicas = [replica(host) for host in "abcd"]

    def arrange(options: Options) -> Arrangement:
        size = options.batches[0].of(4)
        return Arrangement(tuple(tuple(replicas[at : at + size]) for at in range(0, 4, size)), gated=True)

    options = Options(batches=(Size(count=2),))
    found, whole = spared(arrange, options, replicas, "abcd", cast(Any, surveys(there)), "m")
    assert [len(group) for group in found.groups] == sizes
    assert whole == taken


def test_all_at_once_is_what_was_asked_for_and_said() -> None:
    replicas = [replica(host) for host in "abcd"]
    found, whole = spared(
        lambda options: Arrangement(), Options(), replicas, "abcd", surveys({"n": "a b"}), "m"
    )
    assert not found.groups
    assert list(notes(whole)) == ["n serves on a, b alone: nothing of it answers while that is provisioned"]
