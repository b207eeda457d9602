"""flagprov itself and what it depends on, at the versions that run here, as wheels for another controller."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement

from flagprov.distribute.repository import run
from flagprov.errors import FlagprovError

PROJECT = "flagprov"
_REMEDY = (
    "pip is needed in flagprov's environment, and an index in pip's settings; or go without: --no-wheels"
)


@dataclass(frozen=True, slots=True)
class Wheel:
    file: Path
    name: str
    version: str
    licence: str


def fetch(folder: Path) -> list[Wheel]:
    """Through pip, as it is set up here; what it has kept of the time before it does not fetch again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    try:
        run([*pip, "--wheel-dir", str(folder), *sorted(requirements())], _REMEDY)
    except FlagprovError as error:
        raise FlagprovError(f"wheels: {error.message}", remedy=_REMEDY) from None
    return [read(file) for file in sorted(folder.glob("*.whl"))]


def requirements(project: str = PROJECT) -> set[str]:
    """As pip takes them: NAME==VERSION, or where a project was installed from."""
    return {_origin(distribution) for distribution in _closure(project).values()}


def _closure(project: str) -> dict[str, metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(project)]
    while waiting:
        wanted = waiting.pop()
        distribution = metadata.distribution(wanted.name)
        name = str(distribution.name).lower().replace("_", "-")
        if name in found and not wanted.extras:
            continue
        found[name] = distribution
        waiting += _required(distribution, wanted.extras)
    return found


def _required(distribution: metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _origin(distribution: metadata.Distribution) -> str:
    """A checkout and a file have an address of their own; anything else comes from pip's index."""
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if str(direct.get("url", "")).startswith("file:"):
        return f"{distribution.name} @ {direct['url']}"
    return f"{distribution.name}=={distribution.version}"


def read(file: Path) -> Wheel:
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = HeaderParser().parsestr(archive.read(name).decode())
    classifiers = about.get_all("Classifier") or []
    named = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]
    said = str(about.get("License-Expression") or about.get("License") or "")
    if not said or len(said) > 60 or "\n" in said:  # some paste the whole text
        said = ", ".join(named)
    return Wheel(file, str(about["Name"]), str(about["Version"]), said)
