"""Images that are fanned out are looked up before the plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flagprov.catalog import load_release
from flagprov.distribute.fan_images import answerable
from flagprov.distribute.registry import MANIFESTS, Registry, registry_of, sha256
from flagprov.errors import FlagprovError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Change, Look, Survey
from flagprov.models.release import Image
from flagprov.preparation import Job
from flagprov.site import Site

HOSTS = tuple(Host(name, Connection("192.0.2.1"), chip="cpu-x86") for name in ("h1", "h2", "h3"))
BRING = Change("image", "r", "image", "bring", "it is not here")
LOOKS = {"h1": Look("h1", "d", (BRING,)), "h2": Look("h2", "d", (BRING,)), "h3": Look("h3", "d", ())}
MANIFEST = json.dumps({"config": {"digest": "sha256:" + "c" * 64, "size": 1}, "layers": []}).encode()


def job(folder: Path, *digests: str) -> Job:
    release = load_release("qwen3-tiny")
    image = Image(
        reference="registry.example/tiny:1", digests=digests, alternatives=("other.example/tiny:1",)
    )
    variant = release.variants["cpu-x86"].model_copy(update={"image": image})
    variants = {host.name: variant for host in HOSTS}
    return Job(
        Fleet(folder / "lab.ini", HOSTS), Site(folder / ".flagprov"), release, {}, variants, None, (), {}
    )


def surveys() -> dict[str, Survey]:
    empty = Survey("", "x86_64", "", "", 1, 1, "27", "", {}, (), {}, {})
    return {host.name: replace(empty, host=host.name) for host in HOSTS}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def manifest(self: Registry, tag: str) -> tuple[bytes, str]:
        found.append(f"{self.host}/{self.name}:{tag}")
        return MANIFEST, MANIFESTS[0]

    monkeypatch.setattr(Registry, "manifest", manifest)
    return found


def test_what_the_registry_has_changes_nothing(asked: list[str], tmp_path: Path) -> None:
    sizes = {"h1": 1, "h2": 1}
    assert answerable(job(tmp_path), LOOKS, surveys()) == (LOOKS, sizes)
    assert answerable(job(tmp_path, sha256(MANIFEST)), LOOKS, surveys()) == (LOOKS, sizes)
    assert asked == ["registry.example/tiny:1"] * 2  # once for both hosts


def test_a_moved_tag_is_a_problem_of_the_hosts_that_lack_the_image(asked: list[str], tmp_path: Path) -> None:
    found, sizes = answerable(job(tmp_path, "sha256:" + "0" * 64), LOOKS, surveys())
    assert not sizes
    assert found["h3"] == LOOKS["h3"]
    for name in ("h1", "h2"):
        (problem,) = found[name].problems
        assert not found[name].changes
        assert "not the image that is locked for cpu-x86" in problem.message
        assert "other.example/tiny:1" in problem.remedy


def test_a_dead_name_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def gone(self: Registry, tag: str) -> tuple[bytes, str]:
        raise FlagprovError("the registry says 404", remedy="Was it moved?")

    monkeypatch.setattr(Registry, "manifest", gone)
    (problem,) = answerable(job(tmp_path), LOOKS, surveys())[0]["h1"].problems
    assert problem.step == "image" and problem.message == "the registry says 404"


def test_a_registry_that_hosts_reach_by_http_is_asked_so() -> None:
    host = replace(HOSTS[0], variables={"container_engine_insecure_registries": ["registry.example:5000"]})
    for reference, scheme in (("registry.example:5000/a:1", "http:"), ("registry.example/a:1", "https:")):
        with registry_of(reference, host) as registry:
            assert registry._base.startswith(scheme)
