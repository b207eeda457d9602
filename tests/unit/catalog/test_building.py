"""Images with build steps: what has to be pinned, and what makes another image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.catalog import load_release, with_lock
from flagprov.catalog.building import built, unpinned
from flagprov.catalog.show import as_dict
from flagprov.distribute.lock import save
from flagprov.errors import ReleaseError
from flagprov.models.release import BuildStep, BuiltImage, Image, Release
from flagprov.preparation import Request, prepare
from flagprov.site import Site

GEMS = "https://git.example/FlagGems.git"
COMMIT, OTHER = "c" * 40, "d" * 40
DIGEST = "sha256:" + "a" * 64


def image(*steps: dict[str, Any], digests: tuple[str, ...] = (DIGEST,)) -> Image:
    return Image.model_validate({"reference": "r.example/m:1", "digests": digests, "build": steps})


def made(*steps: dict[str, Any], digests: tuple[str, ...] = (DIGEST,)) -> Image:
    return built("m", image(*steps, digests=digests), {}, {})


def release(*steps: dict[str, Any]) -> Release:
    found = load_release("qwen3-tiny")
    variant = found.variants["cpu-x86"].model_copy(update={"image": image(*steps, digests=())})
    return found.model_copy(update={"variants": {"cpu-x86": variant}})


def test_an_image_without_steps_is_itself() -> None:
    assert made() == image()
    assert made().pulled == image()


def test_a_pinned_image_has_a_name_of_its_own_that_no_registry_has() -> None:
    found = made({"git": GEMS, "commit": COMMIT})
    assert isinstance(found, BuiltImage)
    assert found.reference.startswith("localhost/flagprov/m:")
    assert found.digests == () and not found.build
    assert found.pulled == image({"git": GEMS, "commit": COMMIT})


@pytest.mark.parametrize(
    "other",
    [
        made({"git": GEMS, "commit": OTHER}),
        made({"git": GEMS, "commit": COMMIT, "directory": "python"}),
        made({"git": GEMS, "commit": COMMIT, "python": "/opt/python3"}),
        made({"git": GEMS, "commit": COMMIT}, {"pip": "a==1"}),
        made({"git": GEMS, "commit": COMMIT}, digests=("sha256:" + "b" * 64,)),
    ],
)
def test_other_steps_or_another_base_are_another_image(other: Image) -> None:
    assert other.reference != made({"git": GEMS, "commit": COMMIT}).reference


def test_how_a_commit_was_found_makes_no_other_image() -> None:
    step = {"git": GEMS, "ref": "main"}
    found = built("m", image(step), {f"{GEMS}#main": COMMIT}, {})
    assert found.reference == made({"git": GEMS, "commit": COMMIT}).reference


def test_what_is_not_pinned_is_named() -> None:
    assert "r.example/m:1 has no locked digest" in unpinned(made({"git": GEMS, "commit": COMMIT}, digests=()))
    assert unpinned(made({"git": GEMS, "ref": "main"})) == f"{GEMS} has no commit for main"


def test_a_lock_pins_base_commit_and_result(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    one = release({"git": GEMS, "ref": "main"})
    assert with_lock(one, path).variants["cpu-x86"].image.build
    weights = {"source": "file:///m", "revision": "1", "files": []}
    base = {"cpu-x86": {"r.example/m:1": [DIGEST]}}
    save(path, weights, base, {f"{GEMS}#main": COMMIT})
    found = with_lock(one, path).variants["cpu-x86"].image
    assert isinstance(found, BuiltImage)
    stored = json.loads(path.read_text())
    stored["variants"]["cpu-x86"]["references"][found.reference] = ["sha256:" + "e" * 64]
    path.write_text(json.dumps(stored))
    assert with_lock(one, path).variants["cpu-x86"].image.digests == ("sha256:" + "e" * 64,)
    save(path, weights, base, {f"{GEMS}#main": COMMIT})  # locked again: what was built of it stays known
    assert with_lock(one, path).variants["cpu-x86"].image.digests == ("sha256:" + "e" * 64,)


def test_a_bundles_release_has_the_image_and_no_steps() -> None:
    variant = (
        release().variants["cpu-x86"].model_copy(update={"image": made({"git": GEMS, "commit": COMMIT})})
    )
    written = as_dict(release().model_copy(update={"variants": {"cpu-x86": variant}}))
    assert set(written["variants"]["cpu-x86"]["image"]) == {"reference"}


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({}, "either git or pip"),
        ({"git": GEMS, "commit": COMMIT, "pip": "a==1"}, "either git or pip"),
        ({"git": GEMS}, "needs a commit, or a ref"),
        ({"pip": "a==1", "commit": COMMIT}, "go with git"),
        ({"pip": "a>=1"}, "pattern"),
        ({"pip": "--index-url=http://x a==1"}, "pattern"),
        ({"git": "ext::sh -c id", "commit": COMMIT}, "pattern"),
        ({"git": "--upload-pack=id", "commit": COMMIT}, "pattern"),
        ({"git": "https://me:secret@git.example/a", "commit": COMMIT}, "pattern"),
        ({"git": GEMS, "commit": "main"}, "pattern"),
        ({"git": GEMS, "commit": COMMIT, "directory": "../.."}, "pattern"),
        ({"git": GEMS, "commit": COMMIT, "directory": "/etc"}, "pattern"),
        ({"git": GEMS, "ref": "--upload-pack=id"}, "pattern"),
        ({"git": GEMS, "commit": COMMIT, "python": "-c"}, "pattern"),
        ({"run": "curl x | sh"}, "Extra inputs"),
    ],
)
def test_a_step_says_one_thing_and_nothing_for_a_shell(step: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        BuildStep.model_validate(step)


def test_a_fleet_that_needs_it_is_told_before_any_host_is_touched(tmp_path: Path) -> None:
    inventory = tmp_path / "fleet.ini"
    inventory.write_text("[flagprov_serving]\nh1 ansible_host=192.0.2.1 flagprov_chip=cpu-x86\n")
    file = tmp_path / "mine.yaml"
    written = as_dict(release({"git": GEMS, "ref": "main"}))
    file.write_text(yaml.safe_dump(written))
    with pytest.raises(
        ReleaseError, match=r"variants\.cpu-x86\.image\.build: r\.example/m:1 has no"
    ) as caught:
        prepare(Request(inventory, str(file)))
    assert caught.value.remedy == f"pin it first: flagprov releases lock {file} --inventory {inventory}"
    job = prepare(Request(inventory, str(file), sets=("image=r.example/other:1",)))
    assert job.variants["h1"].image.digests == ()


def test_what_a_name_in_the_settings_stood_for_is_what_is_wanted(tmp_path: Path) -> None:
    """A tag is trusted once, wherever it stands."""
    inventory = tmp_path / "fleet.ini"
    inventory.write_text("[flagprov_serving]\nh1 ansible_host=192.0.2.1 flagprov_chip=cpu-x86\n")
    digest = "sha256:" + "1" * 64
    Site(tmp_path / ".flagprov").lock_image("qwen3-tiny", "cpu-x86", "r.example/other:1", digest)
    for name, digests in (("r.example/other:1", (digest,)), ("r.example/other:2", ())):
        job = prepare(Request(inventory, "qwen3-tiny", sets=(f"image={name}",)))
        assert job.variants["h1"].image.digests == digests
