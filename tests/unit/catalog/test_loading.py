"""By name, by path, with a lock; and what is said about a name that does not exist."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flagprov.catalog import (
    list_releases,
    load_release,
    locked_names,
    release_names,
    variant_for,
    with_lock,
)
from flagprov.catalog.show import as_dict
from flagprov.chips import load_chips
from flagprov.distribute.lock import save
from flagprov.errors import ReleaseError, VersionError
from flagprov.models.release import Release
from flagprov.site import Site

NAMES = (
    "qwen2-7b",
    "qwen2.5-vl-32b",
    "qwen3-4b",
    "qwen3-tiny",
    "qwen3-tiny-ray",
    "qwen3-tiny-standin",
    "qwq-32b",
    "robobrain2-7b-fp8",
)
DIGEST = "sha256:" + "a" * 64


def test_the_catalog() -> None:
    assert release_names() == NAMES
    assert tuple(release.name for release in list_releases()) == NAMES


@pytest.mark.parametrize("release", list_releases(), ids=lambda release: release.name)
def test_provenance_leads_to_facts(release: Release) -> None:
    whole = release.model_dump(mode="json")
    for key in release.provenance:
        assert _at(whole, key) not in (None, "", [], {}), key


@pytest.mark.parametrize("release", list_releases(), ids=lambda release: release.name)
def test_every_part_of_a_card_has_a_provenance(release: Release) -> None:
    if release.card is None:
        return
    told = release.provenance
    for chip, variant in release.variants.items():
        parts = ["image.reference", "container", "launch.label", "operators", "metrics"]
        parts += ["versions"] if variant.versions else []
        for part in parts:
            assert f"variants.{chip}.{part}" in told
        for key in variant.serve:
            assert {f"variants.{chip}.serve", f"variants.{chip}.serve.{key}"} & set(told), key


@pytest.mark.parametrize("release", list_releases(), ids=lambda release: release.name)
def test_shown_as_yaml_it_is_a_release_file_again(release: Release, tmp_path: Path) -> None:
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(as_dict(release), sort_keys=False, allow_unicode=True))
    assert load_release(str(file)) == release


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("qwen3-4", "qwen3-4b"),
        ("QwQ-32B", "qwq-32b"),
        ("robobrain", "robobrain2-7b-fp8"),
        ("qwen2_7b", "qwen2-7b"),
    ],
)
def test_unknown_name(typed: str, nearest: str) -> None:
    with pytest.raises(ReleaseError, match=f"no release is called '{typed}'; nearest: .*{nearest}") as caught:
        load_release(typed)
    assert "flagprov releases list" in caught.value.remedy


def test_a_file_without_a_slash_is_pointed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zzz").write_text("")
    with pytest.raises(ReleaseError, match=r"write \./zzz to use it"):
        load_release("zzz")


def test_chip_without_variant() -> None:
    with pytest.raises(
        ReleaseError, match="qwen3-4b has no variant for graviton4; it has ascend-a2, ascend-a3"
    ):
        variant_for(load_release("qwen3-4b"), "graviton4")


def test_lock_adds_digests(tmp_path: Path) -> None:
    lock = tmp_path / "qwen3-tiny.json"
    lock.write_text(json.dumps({"schema_version": 1, "variants": {"cpu-x86": {"digests": [DIGEST, DIGEST]}}}))
    release = load_release("qwen3-tiny")
    locked = with_lock(release, lock)
    assert locked.variants["cpu-x86"].image.digests == (DIGEST,)
    assert with_lock(locked, lock) == locked
    assert release.variants["cpu-x86"].image.digests == ()


def test_lock_names_the_revision(tmp_path: Path) -> None:
    lock = tmp_path / "qwen3-tiny.json"
    release = load_release("qwen3-tiny")
    weights = {"source": release.weights.source, "revision": "c0ffee", "files": []}
    lock.write_text(json.dumps({"schema_version": 1, "weights": weights}))
    assert with_lock(release, lock).weights.revision == "c0ffee"
    lock.write_text(json.dumps({"schema_version": 1, "weights": {**weights, "source": "hf://an/other"}}))
    assert with_lock(release, lock).weights.revision is None


def test_what_a_name_stood_for_is_not_what_another_name_stands_for(tmp_path: Path) -> None:
    """A release with a new tag would else be served by the old image."""
    site = Site(tmp_path)
    release = load_release("qwen3-tiny")
    image = release.variants["cpu-x86"].image
    for _ in range(2):
        site.lock_image("qwen3-tiny", "cpu-x86", image.reference, DIGEST)
    path = site.lock_file("qwen3-tiny")
    assert with_lock(release, path).variants["cpu-x86"].image.digests == (DIGEST,)
    newer = release.variants["cpu-x86"].model_copy(
        update={"image": image.model_copy(update={"reference": "flagprov-lab/vllm-cpu:next"})}
    )
    release = release.model_copy(update={"variants": {"cpu-x86": newer}})
    assert with_lock(release, path).variants["cpu-x86"].image.digests == ()
    save(
        path,
        {"source": "file:///m", "revision": "1", "files": []},
        {"cpu-x86": {"flagprov-lab/vllm-cpu:next": [DIGEST]}},
    )
    assert with_lock(release, path).variants["cpu-x86"].image.digests == (DIGEST,)
    # What settings named stays trusted once.
    assert locked_names(path)["cpu-x86"][image.reference] == (DIGEST,)


def test_no_lock_no_change(tmp_path: Path) -> None:
    release = load_release("qwen3-tiny")
    assert with_lock(release, tmp_path / "none.json") == release


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('{"schema_version": 2, "x": 1}', VersionError, "version 2"),
        ('{"variants": {"cpu-x86": {"digests": ["latest"]}}}', ReleaseError, "64 hexadecimal digits"),
        ('{"variants": ', ReleaseError, r"lock\.json:2:"),
        ("", ReleaseError, "empty"),
    ],
)
def test_broken_lock(text: str, error: type[ReleaseError], words: str, tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    lock.write_text(text)
    with pytest.raises(error, match=words):
        with_lock(load_release("qwen3-tiny"), lock)


def test_no_variant_asks_what_its_chip_forbids() -> None:
    chips = load_chips()
    for release in list_releases():
        for name, variant in release.variants.items():
            assert bool(variant.container.gpus) == chips[name].gpus_flag


def test_importing_the_catalog_is_light() -> None:
    code = "import sys, flagprov.catalog, flagprov.chips; print({'pydantic', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _at(value: Any, key: str) -> Any:
    """Follow a dotted key; names of chips and releases may hold dots."""
    if not key:
        return value
    for name in value:
        if key == name or key.startswith(f"{name}."):
            return _at(value[name], key[len(name) + 1 :])
    return None
