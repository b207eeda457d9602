"""What decides which images are built anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flagprov.errors import LabError
from flagprov.lab import rootfs, serving
from flagprov.lab.cards import card_images
from flagprov.lab.layout import Layout
from flagprov.lab.oci import Blob


def names(path: Path) -> set[str]:
    return {line.split("==")[0].lower().replace("_", "-") for line in rootfs.listed(path)}


def test_the_layers_share_no_package() -> None:
    assert not names(serving.IMAGES / "common.txt") & names(serving.IMAGES / "vllm.txt")


def test_every_python_package_is_pinned() -> None:
    for layer in ("common", "vllm"):
        assert all("==" in line for line in rootfs.listed(serving.IMAGES / f"{layer}.txt"))


def test_bare_hosts_have_no_container_engine() -> None:
    assert set(rootfs.host_packages(bare=False)) - set(rootfs.host_packages(bare=True)) == {"docker.io"}


def test_a_host_image_is_named_by_its_content() -> None:
    assert rootfs.host_content(bare=True) != rootfs.host_content(bare=False)


@pytest.mark.parametrize(
    ("flags", "kernels"),
    [
        ("fpu avx2 avx512f avx512_bf16", "_C"),
        ("fpu avx2 avx512f", "_C_AVX512"),
        ("fpu avx2", "_C_AVX2"),
    ],
)
def test_the_kernels_that_the_processor_loads_are_kept(
    flags: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_cpuinfo", lambda: ("processor : 0", f"flags\t\t: {flags}"))
    assert serving._kernels() == kernels


class Builds:
    """Stands in for the slow half: which layers are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, layout: Layout, storage: object, work: Path, wanted: list[str], say: object) -> object:
        self.made = list(wanted)
        layout.model.mkdir(parents=True, exist_ok=True)
        (layout.model / "config.json").write_text("{}")
        return [(name, Blob(f"sha256:{at:064d}", at)) for at, name in enumerate(wanted)]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    made = Builds()
    monkeypatch.setattr(serving, "_layers", made)
    monkeypatch.setattr(serving.Storage, "has", lambda storage, blob: True)
    monkeypatch.setattr(serving.Storage, "sweep", lambda storage, keep: None)
    yield made


def build(layout: Layout) -> None:
    serving.build(layout, lambda text: None)


def test_a_second_build_makes_nothing(tmp_path: Path, builds: Builds) -> None:
    layout = Layout(tmp_path)
    build(layout)
    assert {"base", "common", "vllm"} <= set(builds.made)
    builds.made = []
    build(layout)
    assert builds.made == []


def test_another_stand_in_does_not_build_vllm_again(
    tmp_path: Path, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    build(layout)
    keys = serving._keys() | {"standin": "another"}
    monkeypatch.setattr(serving, "_keys", lambda: keys)
    build(layout)
    assert builds.made == ["standin"]


def test_chips_alone_need_no_vllm(tmp_path: Path, builds: Builds) -> None:
    cards = card_images(["ascend-a3"])
    built = serving.build(Layout(tmp_path), lambda text: None, plain=False, cards=cards)
    assert set(builds.made) == {"base", "common", "standin", "ascend-a3"}
    assert (built.plain, list(built.cards)) == ((), [("qwen3-4b", "ascend-a3")])


def test_what_was_built_stays_when_the_rest_fails(
    tmp_path: Path, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(layout: Layout, *_: object) -> Iterator[tuple[str, Blob]]:
        layout.build.mkdir(parents=True)
        yield "base", Blob(f"sha256:{0:064d}", 0)
        raise LabError("pip failed")

    monkeypatch.setattr(serving, "_layers", fails)
    cards = card_images(["ascend-a3"])
    with pytest.raises(LabError):
        serving.build(Layout(tmp_path), lambda text: None, plain=False, cards=cards)
    monkeypatch.setattr(serving, "_layers", builds)
    serving.build(Layout(tmp_path), lambda text: None, plain=False, cards=cards)
    assert set(builds.made) == {"common", "standin", "ascend-a3"}
