"""Repositories of build steps, by the controller's git: what a branch or tag is, and a commit's files."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from flagprov.catalog.building import ref_name
from flagprov.errors import FlagprovError
from flagprov.host.fetch import hidden
from flagprov.models.release import Release

PATIENCE_S = 1800
Say = Callable[[str], None]


def lock_commits(release: Release, say: Say) -> dict[str, str]:
    """For the refs of a release's build steps that name no commit: repository#ref -> commit."""
    steps = [step for variant in release.variants.values() for step in variant.image.build]
    found: dict[str, str] = {}
    for step in steps:
        name = ref_name(step)
        if step.git and step.ref and not step.commit and name not in found:
            say(f"asking {step.git} for {step.ref}")
            found[name] = resolve(step.git, step.ref)
    return found


def resolve(repository: str, ref: str) -> str:
    """The commit that a tag or a branch is now; HEAD is the repository's own branch."""
    names = ["HEAD"] if ref == "HEAD" else [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}"]
    listed = _git(repository, "ls-remote", "--", repository, *names).splitlines()
    commits = {name: commit for commit, _, name in (line.partition("\t") for line in listed)}
    for name in names:
        if name in commits:
            return commits[name]
    raise FlagprovError(f"{repository}: has no branch or tag {ref}", remedy="Name another one in the step.")


def archive(repository: str, commit: str, folder: Path) -> Path:
    """All files of a commit in one archive; what is there already is not fetched again."""
    target = folder / f"{commit}.tar"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        _git(repository, "init", "--quiet", "--bare", work)
        try:
            one = ("--depth=1", "--no-tags", "--", repository, commit)
            _git(repository, f"--git-dir={work}", "fetch", "--quiet", *one)
        except FlagprovError:  # not every server gives a commit by its name
            everything = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            _git(repository, f"--git-dir={work}", "fetch", "--quiet", "--", repository, *everything)
        part = Path(work) / "archive"
        _git(repository, f"--git-dir={work}", "archive", "--format=tar", f"--output={part}", commit)
        part.replace(target)
    return target


def _git(repository: str, *words: str) -> str:
    """Never asks anybody; what it needs to know is in its own settings and the environment."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=PATIENCE_S,
            check=False,
        )
    except FileNotFoundError:
        raise FlagprovError(
            f"{repository}: this controller has no git", remedy="Install git on it."
        ) from None
    except subprocess.TimeoutExpired:
        raise FlagprovError(f"{repository}: no answer within {PATIENCE_S} s", remedy=_REMEDY) from None
    if done.returncode:
        said = hidden(done.stderr.strip(), environment).splitlines() or [f"git ended with {done.returncode}"]
        raise FlagprovError(f"{repository}: {said[-1]}", remedy=_REMEDY)
    return done.stdout


_REMEDY = "Check address, network and proxies (HTTPS_PROXY); git's url.NEW.insteadOf leads to a mirror."
