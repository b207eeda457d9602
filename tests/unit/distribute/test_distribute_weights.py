"""Where the weights of a run come from, and what a plan says of hosts that lack them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import weights
from flagprov.distribute.content import Here, There, content_of
from flagprov.distribute.disk import on_disk
from flagprov.distribute.fan_out import Transfer
from flagprov.distribute.fetch import ask_source
from flagprov.distribute.watch import Watch
from flagprov.distribute.weights import (
    Weights,
    answerable,
    find_supply,
    holders,
    holding,
    lacking,
    listed,
    weights_path,
    with_place,
)
from flagprov.errors import FlagprovError, HostError, UnreachableError, UsageError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Change, Look, Problem
from flagprov.models.request import Handover
from flagprov.preparation import Job
from flagprov.site import Site

HOSTS = tuple(Host(name, Connection(f"192.0.2.{n}"), chip="cpu-x86") for n, name in enumerate(("h1", "h2")))


def job(folder: Path, source: str = "file:///models/none") -> Job:
    release = load_release("qwen3-tiny")
    release = release.model_copy(update={"weights": release.weights.model_copy(update={"source": source})})
    fleet = Fleet(folder / "lab.ini", HOSTS)
    return Job(fleet, Site(folder / ".flagprov"), release, {}, {}, None, (), {})


def seen(host: str, *actions: str) -> Look:
    changes = tuple(Change("weights", "/m", "weights", action, "missing: /m") for action in actions)
    return Look(host, "d", changes)


def test_a_host_that_has_them_is_the_nearest_source(tmp_path: Path) -> None:
    looks = {"h1": seen("h1"), "h2": seen("h2", "fetch")}
    assert (lacking(looks), holding(looks)) == (["h2"], ["h1"])
    found = answerable(job(tmp_path), looks)["h2"]
    assert not found.problems
    assert found.changes[0].reason == "missing: /m; from h1, which has them"


def test_without_any_source_the_host_is_left_out_with_the_way_out(tmp_path: Path) -> None:
    found = answerable(job(tmp_path), {"h1": seen("h1", "fetch")})["h1"]
    assert not found.changes
    assert found.problems[0].message == "missing: /m"
    assert "file:///models/none" in found.problems[0].remedy


def test_weights_that_are_to_be_checked_again_are_no_source() -> None:
    assert holding({"h1": seen("h1", "check")}) == []


def test_weights_that_are_a_problem_are_no_source() -> None:
    blocked = replace(seen("h2"), problems=(Problem("weights", "another version", "another path"),))
    assert holding({"h1": seen("h1"), "h2": blocked}) == ["h1"]


def test_hosts_that_are_not_held_against_the_lock_yet_are_the_last_resort(tmp_path: Path) -> None:
    looks = {"h1": seen("h1", "check"), "h2": seen("h2", "fetch")}
    locked = replace(job(tmp_path), files=(("a", 1, "0" * 64),))
    assert holders(locked, looks) == [HOSTS[0]]
    assert holders(job(tmp_path), looks) == []
    assert holders(replace(job(tmp_path, "hf://me/tiny"), files=locked.files), looks) == []


def test_a_directory_of_the_controller(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    supply = find_supply(job(tmp_path, f"file://{tmp_path}"), [])
    assert supply is not None and supply.source == Here(tmp_path)


def test_a_directory_of_a_named_host(tmp_path: Path) -> None:
    supply = find_supply(job(tmp_path, "h2:/data/m"), [])
    assert supply is not None and supply.source == There(HOSTS[1], "/data/m")
    assert find_supply(job(tmp_path, "h9:/data/m"), []) is None


def test_that_host_wants_them_too(tmp_path: Path) -> None:
    asked = job(tmp_path, "h2:/data/m")
    supply = find_supply(asked, [])
    assert supply is not None and supply.source is not None
    placed = with_place(supply.source, HOSTS, asked.release)
    assert placed == There(HOSTS[1], "/data/m", weights_path(asked.release, HOSTS[1]))
    assert with_place(supply.source, HOSTS[:1], asked.release) == supply.source
    at_home = There(HOSTS[1], weights_path(asked.release, HOSTS[1]))
    assert with_place(at_home, HOSTS, asked.release) == at_home


class Fleetwide:
    """Hosts that mount one share, all of which answer."""

    def each(self, hosts: Sequence[Host], function: object) -> dict[str, object]:
        answer = {"addresses": ["192.0.2.1"], "files": [], "storage": "nfs4 filer:/x m"}
        return {host.name: answer for host in hosts}


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (UnreachableError("h1", "transfer", "the connection was lost"), [["h1"], ["h2"]]),
        (HostError("h1", "transfer-c0ffee-1", "the job was killed"), [["h1"], ["h2"]]),
        (HostError("h1", "weights", "the share is full"), [["h1"]]),
        (None, [["h1"]]),
    ],
)
def test_the_next_host_of_a_share_takes_over(
    error: HostError | None, asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    tried: list[list[str]] = []

    def run(self: Transfer) -> dict[str, object]:
        tried.append([target.host.name for target in self.targets])
        return {name: error if error and name == "h1" else {"changed": 1, "seconds": 1} for name in tried[-1]}

    monkeypatch.setattr(Transfer, "run", run)
    work = Weights(job(tmp_path, f"file://{tmp_path}"), Fleetwide(), lambda event: None)  # type: ignore[arg-type]
    work.bring(HOSTS, [])
    assert tried == asked
    assert set(work.failures) == ({"h1"} if error else set())


def test_what_this_controller_cannot_read_or_write_is_the_failure_of_those_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    wanted = job(tmp_path, f"file://{tmp_path}")
    wanted.site.root.mkdir()
    (wanted.site.root / "transfers").touch()  # no directory
    work = Weights(wanted, Fleetwide(), lambda event: None)  # type: ignore[arg-type]
    work.bring(HOSTS[:1], [])
    assert work.failures["h1"].message == f"{wanted.site.root}/transfers on this controller: file exists"

    def vanished(path: str) -> list[object]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{path}/model.safetensors")

    monkeypatch.setattr(weights, "listing", vanished)
    work = Weights(wanted, Fleetwide(), lambda event: None)  # type: ignore[arg-type]
    work.bring(HOSTS, [])
    assert {error.message for error in work.failures.values()} == {
        f"{tmp_path}/model.safetensors on this controller: no such file or directory"
    }
    assert set(work.failures) == {"h1", "h2"}


def test_every_host_of_a_transfer_hears_of_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source, too: the run's own heartbeat leaves out who is at work."""
    asked: dict[str, object] = {}

    class Busy:
        host = HOSTS[0]

        def ask(self, payload: dict[str, object], on_event: object) -> dict[str, object]:
            asked.update(payload)
            return {"changed": 0}

    wanted = job(tmp_path)
    content = content_of([("a", 1, "0" * 64)])
    transfer = Transfer(
        *(None, wanted.site, content, There(HOSTS[0], "/m"), [], lambda event: None),  # type: ignore[arg-type]
        lease={"token": "mine"},
    )
    monkeypatch.setattr(Transfer, "_spec", lambda *_: {"source": True, "place": ""})
    transfer._ask(Busy(), None, None, Watch([HOSTS[0].name]))  # type: ignore[arg-type]
    assert asked["lease"] == {"token": "mine"}


def test_a_hub_is_fetched_from_once(tmp_path: Path) -> None:
    supply = find_supply(job(tmp_path, "modelscope://Qwen/Qwen3-4B"), [])
    assert supply is not None and supply.source is None
    assert supply.cache == tmp_path / ".flagprov" / "weights" / "qwen3-tiny"


def test_nothing_lacking_changes_nothing(tmp_path: Path) -> None:
    looks = {"h1": seen("h1")}
    assert answerable(job(tmp_path), looks) == looks


def test_small_files_come_first_and_paths_stay_inside() -> None:
    content = content_of([("z.bin", 1 << 30, ""), ("config.json", 2, "")])
    assert [path for path, _, _ in content.files] == ["config.json", "z.bin"]
    assert not content.locked
    for path in ("../x", "/x", "a//b", ""):
        with pytest.raises(FlagprovError, match="no path of a file that hosts may take"):
            content_of([(path, 1, "")])


def test_a_host_of_the_site_fetches_where_the_inventory_says_so(tmp_path: Path) -> None:
    asked = job(tmp_path, "hf://me/tiny")
    hosts = tuple(replace(host, variables={"flagprov_fetch_on": "h2"}) for host in HOSTS)
    supply = find_supply(replace(asked, fleet=replace(asked.fleet, hosts=hosts)), [])
    assert supply is not None and supply.host is not None and supply.host.name == "h2"
    limited = replace(asked, fleet=replace(asked.fleet, hosts=hosts[:1]), limit="h1")
    left_out = {"h1": seen("h1", "fetch")}
    with pytest.raises(UsageError, match="flagprov_fetch_on is h2, which --limit h1 leaves out"):
        answerable(limited, left_out)
    assert find_supply(limited, hosts[:1])  # one of these has the weights
    assert listed(limited) == ()
    locked = replace(limited, files=(("a", 1, "0" * 64),))
    assert listed(locked) == locked.files
    assert holders(locked, {"h1": seen("h1")}) == [hosts[0]]  # as yet unproved; better than none
    spare = replace(limited, handover=Handover("h2", "h1", ()))  # the command that sets --limit itself
    assert answerable(spare, left_out)["h1"].changes[0].reason.endswith("once, then host to host")


def test_a_python_that_is_not_there_is_no_matter_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAGPROV_FETCH_PYTHON", f"{tmp_path}/python")
    with pytest.raises(FlagprovError) as caught, on_disk(tmp_path):
        ask_source("list", "hf://me/tiny", None)
    assert f"{tmp_path}/python cannot be started: no such file" in caught.value.message
    assert "FLAGPROV_FETCH_PYTHON" in caught.value.remedy


@pytest.mark.parametrize(("folder", "prune"), [("site/.flagprov/weights", True), ("cache", False)])
def test_a_prune_makes_room_in_what_is_ours(tmp_path: Path, folder: str, prune: bool) -> None:
    with pytest.raises(FlagprovError) as caught, on_disk(tmp_path / folder, "FLAGPROV_WEIGHTS_CACHE"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert ("flagprov prune" in caught.value.remedy) is prune
