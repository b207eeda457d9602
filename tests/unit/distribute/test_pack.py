"""What goes into a bundle is what is locked."""

from __future__ import annotations

from pathlib import Path

import pytest

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
