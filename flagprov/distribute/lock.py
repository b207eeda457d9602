"""Locking a release: which revision of the weights, which files with which sha256, which image digests."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flagprov.distribute.fetch import ask_source
from flagprov.distribute.registry import digests_of
from flagprov.errors import FlagprovError
from flagprov.host.transfer import manifest
from flagprov.host.transfer.layout import listing
from flagprov.models.fleet import Host
from flagprov.models.release import Lock, Release
from flagprov.serving import site_reference

Say = Callable[[str], None]


def lock_image(reference: str, architectures: Sequence[str], host: Host | None) -> list[str]:
    """Digests of an image, as hosts pull it, or else upstream's, where the site's registry lacks it yet."""
    here = site_reference(reference, host.registries) if host else reference
    if here != reference:
        with contextlib.suppress(FlagprovError):
            return digests_of(here, architectures, host)
    return digests_of(reference, architectures, host)


def lock_weights(release: Release, say: Say) -> dict[str, Any]:
    """Revision and files with sha256; what the hub has no sha256 of is downloaded and hashed."""
    source = release.weights.source
    if source.startswith("file://"):
        folder = Path(source.removeprefix("file://"))
        if not folder.is_dir():
            raise FlagprovError(
                f"{source}: there is no such directory on this controller",
                remedy="Lock it where it is mounted, or bring the weights here.",
            )
        say(f"hashing {folder}")
        return _locked(source, "local", hashed(folder))
    if "://" not in source:
        raise FlagprovError(
            f"{source}: files of a host cannot be locked from here",
            remedy="Their manifest is written when they are first brought to other hosts.",
        )
    say(f"asking {source}")
    answer = ask_source("list", source, release.weights.revision)
    files = [tuple(entry) for entry in answer["files"]]
    if all(digest for _, _, digest in files):
        return _locked(source, answer["revision"], files)
    without = [path for path, _, digest in files if not digest]
    say(f"downloading {len(without)} small files, of which the hub has no sha256")
    with tempfile.TemporaryDirectory() as temporary:
        fetched = ask_source("get", source, answer["revision"], Path(temporary), only=without)
        files = [
            (path, size, digest or manifest.file_digest(str(Path(temporary, path))))
            for path, size, digest in fetched["files"]
        ]
    return _locked(source, answer["revision"], files)


def hashed(folder: Path) -> list[tuple[str, int, str]]:
    """A directory's files; hashed unless its manifest vouches for them."""
    known = manifest.read(str(folder))
    found = []
    for path, size, _ in listing(str(folder)):
        entry = known.get(path)
        vouched = entry is not None and manifest.unchanged(str(folder), entry)
        digest = str(entry["sha256"]) if entry and vouched else manifest.file_digest(str(folder / path))
        found.append((path, size, digest))
    return found


def save(
    path: Path,
    weights: Mapping[str, Any],
    images: Mapping[str, Mapping[str, Sequence[str]]],
    commits: Mapping[str, str] | None = None,
) -> None:
    """Into the lock file; `images`: chip -> name -> digests; chips and names that are not given stay.

    So do images that were built, and those of settings. `commits` are those of build steps' refs.
    """
    stored: dict[str, Any] = {"schema_version": 1, "variants": {}}
    if path.exists():
        stored |= json.loads(path.read_text(encoding="utf-8"))
    stored["weights"] = dict(weights)
    for chip, names in images.items():
        before = stored["variants"].get(chip, {}).get("references", {})
        found = {name: list(digests) for name, digests in names.items()}
        stored["variants"][chip] = {"references": {**before, **found}}
    if commits:
        stored["commits"] = dict(commits)
    else:
        stored.pop("commits", None)
    Lock.model_validate(stored)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    # Read as YAML, for its lines; libyaml takes no pair of surrogates for one character.
    text = json.dumps(stored, indent=1, sort_keys=True, ensure_ascii=False)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


def _locked(source: str, revision: str, files: Sequence[Sequence[Any]]) -> dict[str, Any]:
    ordered = sorted(tuple(entry) for entry in files)
    listed = [{"path": path, "size": size, "sha256": digest} for path, size, digest in ordered]
    return {"source": source, "revision": revision, "files": listed}
