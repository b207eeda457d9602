"""What the controller keeps goes when nothing needs it: never what a lock or a deployment names."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from flagprov.distribute.cellar import unneeded
from flagprov.distribute.registry import sha256
from flagprov.models.desired import Replica
from flagprov.site import Site

OLD = 1_000_000_000.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three images, weights and bundles each; `a` is the oldest."""
    site = Site(tmp_path / ".flagprov")
    for age, letter in enumerate("abc"):
        layout(site.root / "oci" / letter, letter)
        write(site.root / "weights" / letter / "config.json", letter)
        bundle = site.root / "bundles" / letter
        layout(bundle / "oci" / letter, letter)
        release = Path(__file__).parents[3] / "flagprov/catalog/releases/qwen3-tiny.yaml"
        write(bundle / "release.yaml", release.read_text())
        for folder in (site.root / "oci" / letter, site.root / "weights" / letter, bundle):
            for path in (folder, *folder.rglob("*")):
                os.utime(path, (OLD + age, OLD + age))
    return site


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def manifest(letter: str) -> str:
    return json.dumps({"config": {"digest": f"sha256:{letter * 64}", "size": 1}, "layers": []})


def layout(root: Path, letter: str) -> None:
    digest = sha256(manifest(letter).encode())
    write(root / "blobs/sha256" / digest.removeprefix("sha256:"), manifest(letter))
    name = {"org.opencontainers.image.ref.name": f"site.example/{letter}:1"}
    entry = {"digest": digest, "size": 1, "annotations": name}
    write(root / "index.json", json.dumps({"manifests": [entry]}))


def gone(site: Site, needed: Any = (), asked: Any = ("h1",), keep: int = 2) -> list[str]:
    steps = unneeded(site, needed, asked, keep)
    assert all(step.action == "remove" and step.reason.startswith("nothing needs it; ") for step in steps)
    return [str(Path(step.name).relative_to(site.root)) for step in steps]


def deployed(site: Site, release: str, *hosts: str) -> None:
    site.remember([Replica(f"{release}-0", release, "cpu-x86", hosts, (0,), 9010)])


def test_the_newest_stay(site: Site) -> None:
    assert gone(site) == ["oci/a", "bundles/a", "weights/a"]
    assert gone(site, keep=1) == ["oci/a", "oci/b", "bundles/a", "bundles/b", "weights/a", "weights/b"]
    assert gone(site, keep=3) == []


@pytest.mark.parametrize("name", ["site.example/a:1", f"sha256:{'a' * 64}", sha256(manifest("a").encode())])
def test_an_image_that_a_host_needs_stays_by_any_of_its_names(name: str, site: Site) -> None:
    assert gone(site, [name]) == ["weights/a"]


def test_what_a_lock_names_stays(site: Site) -> None:
    site.lock_image("a", "cpu-x86", "r.example/a:1", f"sha256:{'a' * 64}")
    assert gone(site) == []


def test_of_a_release_of_the_catalog_the_image_that_it_names_now_stays(site: Site) -> None:
    site.lock_image("qwen3-tiny", "cpu-x86", "flagprov-lab/vllm-cpu:0.1", f"sha256:{'a' * 64}")
    assert "oci/a" in gone(site)
    deployed(site, "qwen3-tiny", "h2")  # which was not asked: it may have any
    assert gone(site) == ["weights/a"]
    assert "oci/a" in gone(site, asked=["h1", "h2"])


def test_weights_of_a_release_that_is_deployed_stay(site: Site) -> None:
    deployed(site, "a", "h1")
    assert gone(site) == ["oci/a", "bundles/a"]


def test_a_bundle_of_a_release_on_hosts_that_do_not_answer_stays(site: Site) -> None:
    deployed(site, "qwen3-tiny", "h1", "h2")
    assert "bundles/a" not in gone(site)
    assert "bundles/a" in gone(site, asked=["h1", "h2"])


def test_what_somebody_is_at_stays(site: Site) -> None:
    for letter in "ab":
        write(site.root / "oci" / letter / "blobs/sha256/more.part", "x")
    assert [path for path in gone(site, keep=1) if path.startswith("oci/")] == ["oci/c"]


def test_what_was_cut_off_goes(site: Site) -> None:
    (site.root / "oci/a/index.json").unlink()
    (site.root / "bundles/a").rename(site.root / "bundles/a.part")
    for folder in ("oci/a", "bundles"):
        os.utime(site.root / folder, (OLD, OLD))
    assert gone(site) == ["oci/a", "bundles/a.part", "weights/a"]


def test_nothing_goes_while_another_run_is_under_way(site: Site) -> None:
    run = site.new_run("deploy")
    with (run / "events.jsonl").open("w") as events:
        fcntl.flock(events, fcntl.LOCK_EX)
        assert gone(site) == []
    assert gone(site)


def test_what_bundles_were_packed_of_goes(site: Site) -> None:
    """Each bundle has it inside."""
    for age, platform in enumerate(("debian-11-x86_64", "debian-12-x86_64", "ubuntu-22.04-x86_64")):
        write(site.root / "packages" / platform / "archives" / "a.deb", "x")
        for path in (site.root / "packages" / platform).rglob("*"):
            os.utime(path, (OLD + age, OLD + age))
        os.utime(site.root / "packages" / platform, (OLD, OLD))
    write(site.root / "wheels" / "a.whl", "x")
    images = ["oci/a", "bundles/a", "weights/a"]
    assert gone(site) == [*images, "packages/debian-11-x86_64"]  # the wheels have just come
    for path in (site.root / "wheels", site.root / "wheels" / "a.whl"):
        os.utime(path, (OLD, OLD))
    assert gone(site) == [*images, "packages/debian-11-x86_64", "wheels"]


def test_a_site_that_keeps_nothing(tmp_path: Path) -> None:
    assert gone(Site(tmp_path)) == []
