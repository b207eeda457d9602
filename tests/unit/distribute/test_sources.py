"""Repositories of build steps, by a real git."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from flagprov.catalog import load_release
from flagprov.distribute.sources import archive, lock_commits, resolve
from flagprov.errors import FlagprovError
from flagprov.models.release import Image


class Repository:
    def __init__(self, path: Path) -> None:
        self.path, self.url = path, f"file://{path}"
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        argv = ["git", "-C", str(self.path), *identity, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, text: str) -> str:
        (self.path / "file").write_text(text)
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_a_branch_and_a_tag_lead_to_commits(repository: Repository) -> None:
    first = repository.commit("one")
    repository.git("tag", "-a", "v1", "-m", "one")
    second = repository.commit("two")
    assert resolve(repository.url, "v1") == first
    assert resolve(repository.url, "main") == resolve(repository.url, "HEAD") == second
    with pytest.raises(FlagprovError, match="has no branch or tag v2"):
        resolve(repository.url, "v2")


def test_an_archive_is_of_its_commit_whatever_came_after(repository: Repository, tmp_path: Path) -> None:
    first = repository.commit("one")
    repository.commit("two")
    file = archive(repository.url, first, tmp_path / "sources")
    with tarfile.open(file) as found:
        member = found.extractfile("file")
        assert member and member.read() == b"one"
    again = archive(repository.url, first, tmp_path / "others")
    assert file.read_bytes() == again.read_bytes()
    assert [path.name for path in (tmp_path / "sources").iterdir()] == [file.name]
    repository.path.rename(tmp_path / "away")
    assert archive(repository.url, first, tmp_path / "sources") == file


def test_a_site_may_be_named_from_where_one_stands(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit("one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as hooks of a repository have it
    monkeypatch.setattr(tempfile, "mkdtemp", _as_before_3_12)
    file = archive(repository.url, commit, Path("sources"))
    assert tarfile.is_tarfile(file) and not file.is_absolute()


def _as_before_3_12(suffix: object = None, prefix: object = None, dir: object = None) -> str:
    """Later ones give an absolute path whatever the directory is."""
    made = Path(str(dir), "made")
    made.mkdir()
    return str(made)


def test_what_is_not_there_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.commit("one")
    with pytest.raises(FlagprovError, match=f"{repository.url}: ") as caught:
        archive(repository.url, "0" * 40, tmp_path / "sources")
    assert "HTTPS_PROXY" in caught.value.remedy
    with pytest.raises(FlagprovError, match="nowhere"):
        resolve(f"file://{tmp_path}/nowhere", "main")


def test_a_lock_has_the_commits_of_refs_only(repository: Repository) -> None:
    commit = repository.commit("one")
    steps = [{"git": repository.url, "ref": "main"}, {"git": repository.url, "commit": commit, "ref": "gone"}]
    found = load_release("qwen3-tiny")
    image = Image.model_validate({"reference": "r/m:1", "build": [*steps, {"pip": "a==1"}]})
    variant = found.variants["cpu-x86"].model_copy(update={"image": image})
    release = found.model_copy(update={"variants": {"cpu-x86": variant}})
    assert lock_commits(release, print) == {f"{repository.url}#main": commit}
