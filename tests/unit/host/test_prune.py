"""What may go from a host: only what is ours, and only what nothing needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import build, docker, history, prune
from flagprov.host.resources import weights
from flagprov.host.transfer import manifest
from flagprov.host.wire import Blocked

IMAGES = [
    {
        "Id": f"sha256:{letter}",
        "RepoDigests": [f"r/m@sha256:d{letter}"],
        "RepoTags": [f"r/m:{letter}"],
        "Size": 5,
    }
    for letter in "abcx"
]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three deployments of a replica (images a, b, c; weights w1, w2, w3), the last of which runs."""
    for module in (history, prune):
        monkeypatch.setattr(module, "STATE", str(tmp_path))
    monkeypatch.setattr(prune, "unit_state", lambda unit: {})
    monkeypatch.setattr(build, "left", lambda: ["flagprov-build-1"])
    mounts = [{"Source": str(tmp_path / "configs/c")}, {"Source": "/"}, {"Name": "a volume"}]
    running = {"Image": "sha256:c", "Mounts": mounts}
    listed = {"Id": "1", "Names": ["/flagprov-m-0"], "Mounts": mounts}
    answers: dict[str, Any] = {"/containers/json?all=1": [listed], "/images/json": IMAGES}
    monkeypatch.setattr(docker, "call", lambda method, path: answers[path])
    monkeypatch.setattr(docker, "container", lambda name: running)
    for number, letter in enumerate("abc", 1):
        folder = tmp_path / f"w{number}"
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"12345")
        manifest.write(str(folder), {"model.bin": "00"}, {})
        (tmp_path / "configs" / letter).mkdir(parents=True)
        history.remember(
            [
                resource("image", {"reference": f"r/m:{letter}", "digests": [f"sha256:d{letter}"]}),
                resource("weights", {"path": str(folder)}),
                resource("tree", {"path": str(tmp_path / "configs" / letter)}),
                resource("container", {}),
            ],
            {"release": "m"},
            "done",
        )
    return tmp_path


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "replica": "m-0", "spec": spec}


def test_the_last_two_stay_and_foreign_images_too(host: Path) -> None:
    found = prune.unused({"keep": 2})
    assert [image["name"] for image in found["images"]] == ["r/m:a"]
    assert [each["path"] for each in found["weights"]] == [str(host / "w1")]
    assert [directory["path"] for directory in found["directories"]] == [str(host / "configs/a")]
    assert found["builds"] == ["flagprov-build-1"]


def test_what_a_rollback_needs_stays_however_few_are_kept(host: Path) -> None:
    assert [image["name"] for image in prune.unused({"keep": 1})["images"]] == ["r/m:a"]


def test_weights_that_were_there_before_stay(host: Path) -> None:
    (host / "w1" / manifest.NAME).unlink()
    found = prune.unused({"keep": 2})
    assert found["weights"] == []
    assert "not brought by flagprov" in found["kept"][0]


@pytest.mark.parametrize("source", ["w1", "w1/model.bin", "."])
def test_weights_that_a_container_has_mounted_stay(
    source: str, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {"Id": "2", "Names": ["/foreign"], "Mounts": [{"Source": str(host / source)}]}
    before = docker.call
    added = {"/containers/json?all=1": [*before("GET", "/containers/json?all=1"), foreign]}
    monkeypatch.setattr(docker, "call", lambda method, path: added.get(path) or before(method, path))
    found = prune.unused({"keep": 2})
    assert found["weights"] == []
    assert found["kept"] == [f"{host / 'w1'} is mounted into the container foreign"]
    # A teardown ends its own containers first; what others have stays.
    asked = {"weights": [str(host / "w1")], "going": ["flagprov-m-0"]}
    assert prune.kept(asked)["kept"] == found["kept"]
    assert prune.kept({**asked, "going": ["flagprov-m-0", "foreign"]})["kept"] == []
    gone = {"path": str(host / "w1"), "absent": True, "reason": "", "going": ["flagprov-m-0"]}
    assert weights.observe(gone) == {"exists": False}
    assert weights.observe({**gone, "going": ["foreign"]}) == {"exists": True}


def test_weights_stay_where_docker_cannot_say_who_has_them(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(method: str, path: str) -> Any:
        raise Blocked("docker", "no answer")

    monkeypatch.setattr(docker, "call", silent)
    (why,) = prune.kept({"weights": [str(host / "w1")]})["kept"]
    assert "docker does not answer" in why


def configuration(slot: Path, name: str) -> str:
    folder = slot / "configs" / name
    folder.mkdir(parents=True)
    (folder / "launch.json").write_text("{}")
    return str(folder)


def directories() -> set[str]:
    return {directory["path"] for directory in prune.unused({"keep": 2})["directories"]}


def test_configurations_stay_that_run_or_that_a_deployment_needs(host: Path) -> None:
    slots = [host / "replicas" / name for name in ("m-0", "m-0.b")]
    there = {name: [configuration(slot, name) for slot in slots] for name in ("runs", "before", "old")}
    for slot in slots:
        (slot / "configs" / "current").symlink_to("runs")
        trees = [resource("tree", {"path": str(slot / "configs" / "before")}), resource("container", {})]
        history.remember(trees, {}, "done")
    left = [str(slot / "configs" / "half.new") for slot in slots]  # by a run that was cut off
    for path in left:
        Path(path).mkdir()
    gone = directories()
    assert {*there["old"], *left} <= gone
    assert not gone & {*there["runs"], *there["before"]}
    assert not [path for path in gone if path.endswith("current")]


def test_what_runs_stays_where_the_state_is_reached_by_a_link(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a host that has it on another disk."""
    slot = host / "replicas" / "m-0"
    for name in ("runs", "old"):
        configuration(slot, name)
    (slot / "configs" / "current").symlink_to("runs")
    link = host / "link"
    link.symlink_to(host)
    for module in (history, prune):
        monkeypatch.setattr(module, "STATE", str(link))
    gone = directories()
    assert f"{link}/replicas/m-0/configs/old" in gone
    assert f"{link}/replicas/m-0/configs/runs" not in gone


def test_without_a_link_nothing_is_run(host: Path) -> None:
    slot = host / "replicas" / "m-0"
    made = {configuration(slot, name) for name in ("one", "two")}
    (slot / "configs" / "current").symlink_to("gone")
    assert made <= directories()
    (slot / "configs" / "current").unlink()
    assert made <= directories()


def test_configurations_of_before_go_once_no_container_has_them(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lay beside the replicas, and a container had one of them mounted."""
    monkeypatch.setattr(history, "numbers", lambda replica: [])
    old = {str(host / "configs" / name) for name in "ab"}
    assert directories() & {*old, str(host / "configs/c")} == old
    monkeypatch.setattr(docker, "container", lambda name: {"Image": "sha256:c", "Mounts": []})
    assert {*old, str(host / "configs/c")} <= directories()


def test_only_what_the_manifest_lists_is_removed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "w", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    for path in (folder / "sub" / "a", folder / "mine", elsewhere):
        path.write_text("x")
    manifest.write(str(folder), {"sub/a": "00"}, {})
    stored = json.loads((folder / manifest.NAME).read_text())
    stored["files"].append({**stored["files"][0], "path": "../elsewhere"})
    (folder / manifest.NAME).write_text(json.dumps(stored))
    manifest.remove(str(folder))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "mine", "w"]


def test_a_finished_job_goes_and_one_at_work_stays(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, last in (("pull-1", '{"result": {}}'), ("pull-2", '{"event": {}}')):
        (host / "jobs" / name).mkdir(parents=True)
        (host / "jobs" / name / "events").write_text(last + "\n")
    paths = [directory["path"] for directory in prune.unused({"keep": 2})["directories"]]
    assert str(host / "jobs/pull-1") in paths
    assert str(host / "jobs/pull-2") not in paths


def test_what_is_left_of_an_image_goes_unless_it_is_on_its_way(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, packages = host / "oci" / "image", host / "packages"
    for folder in (left, packages / "files"):
        folder.mkdir(parents=True)
    for name in ("transfer-1", "fetch-1"):
        (host / "jobs" / name).mkdir(parents=True)
    works = "flagprov-job-fetch-1.service"
    monkeypatch.setattr(prune, "unit_state", lambda unit: {"ActiveState": "active" if unit == works else ""})
    paths = {directory["path"] for directory in prune.unused({"keep": 2})["directories"]}
    assert {str(left), str(packages)} <= paths
    works = "flagprov-job-transfer-1.service"
    paths = {directory["path"] for directory in prune.unused({"keep": 2})["directories"]}
    assert not {str(left), str(packages)} & paths
