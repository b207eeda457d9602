"""Each file in cases/releases/bad, and beside it what the user is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flagprov.catalog import load_release
from flagprov.errors import UsageError, VersionError

CASES = Path(__file__).parents[2] / "cases" / "releases"
BAD = sorted((CASES / "bad").glob("*.yaml"))


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_message(file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_release(str(file))
    assert caught.value.exit_code == 2
    assert str(caught.value).replace(str(file), file.name) + "\n" == file.with_suffix(".txt").read_text()


def test_every_case_has_its_message_and_the_reverse() -> None:
    assert {file.stem for file in BAD} == {file.stem for file in (CASES / "bad").glob("*.txt")}


def test_a_newer_schema_is_its_own_error() -> None:
    with pytest.raises(VersionError):
        load_release(str(CASES / "bad" / "newer_schema.yaml"))


def test_the_release_that_the_bad_ones_are_made_from_is_good() -> None:
    release = load_release(str(CASES / "good" / "smallest.yaml"))
    assert release.variants["nvidia-h100"].container.ipc == "private"


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(UsageError, match=r"binary\.yaml: not UTF-8 text: .* at byte 6"):
        load_release(str(file))


def test_a_character_that_yaml_forbids(tmp_path: Path) -> None:
    file = tmp_path / "control.yaml"
    file.write_text("name: x\ntitle: a\x01b\n")
    with pytest.raises(UsageError, match=r"control\.yaml:2"):
        load_release(str(file))


@pytest.mark.parametrize(
    ("path", "words"), [("/nowhere/x.yaml", "no such file"), ("/tmp/", "is a directory")]
)
def test_a_path_that_is_no_file(path: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_release(path)


@pytest.mark.parametrize("level", ["[", "- ", "{a: ", "? "])
def test_a_nest_that_would_overflow_the_stack(level: str, tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text(level * 100_000)
    with pytest.raises(UsageError, match=r"deep\.yaml:1:.* nest"):
        load_release(str(file))
