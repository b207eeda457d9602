"""What goes into a bundle is what is locked."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import pack
from flagprov.distribute.pack import as_locked
from flagprov.errors import FlagprovError

ONE, TWO = ("config.json", 2, "a" * 64), ("model.bin", 9, "b" * 64)


def test_only_what_is_locked_goes_in() -> None:
    assert as_locked(Path("/m"), [ONE, ("notes.txt", 1, "c" * 64), TWO], [ONE, TWO]) == [ONE, TWO]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([ONE], "/m/model.bin: is locked, and missing"),
        ([ONE, ("model.bin", 9, "c" * 64)], "/m/model.bin: is not the file that is locked"),
        ([ONE, ("model.bin", 8, "b" * 64)], "/m/model.bin: is not the file that is locked"),
    ],
)
def test_another_file_is_refused(there: list[tuple[str, int, str]], said: str) -> None:
    with pytest.raises(FlagprovError) as caught:
        as_locked(Path("/m"), there, [ONE, TWO])
    assert caught.value.message == said and caught.value.remedy


def test_images_lie_where_a_deploy_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders: list[Path] = []
    monkeypatch.setenv("FLAGPROV_IMAGE_CACHE", str(tmp_path / "large"))
    monkeypatch.setattr(pack, "registry_of", lambda *_: nullcontext())
    monkeypatch.setattr(pack, "_is_for", lambda *_: True)
    monkeypatch.setattr(pack, "fetch_layout", lambda *given: folders.append(given[4]))
    with ExitStack() as stack:
        pack._images(load_release("qwen3-tiny-standin"), "cpu-x86", None, tmp_path, stack, print)
    assert folders == [tmp_path / "large"]
