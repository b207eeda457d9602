"""Which packages of the operating system roles may install, and which of them a host lacks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).with_name("packages.yaml")


@dataclass(frozen=True, slots=True)
class Package:
    """The first of `names` that is on offer; at one version, or not below one, where these are not empty."""

    names: tuple[str, ...]
    version: str = ""
    least: str = ""

    def fits(self, versions: Mapping[str, str]) -> bool:
        """Whether one of these, name -> version, is it."""
        found = [versions[name] for name in self.names if name in versions]
        return any(is_version(each, self.version) and is_least(each, self.least) for each in found)

    @property
    def wanted(self) -> str:
        return self.version or (f"{self.least} or later" if self.least else "")

    def __str__(self) -> str:
        return f"{self.names[0]} {self.wanted}".rstrip()


@dataclass(frozen=True, slots=True)
class Need:
    """What one role installs for one purpose; the keys of packages.yaml."""

    names: Mapping[str, Sequence[str]]
    there: Sequence[str] = ()
    least: Sequence[str] = ()
    pin: str = ""
    variable: str = ""
    when: str = ""
    equals: str = ""
    default: bool | str = False
    unless: str = ""
    ask: bool = True

    def packages(
        self, platform: str, manager: str, values: Mapping[str, Any], kernel: str = ""
    ) -> list[Package]:
        """`values`: pins of the chip, under the host's own variables."""
        given = values.get(self.variable) or ""
        if isinstance(given, list):
            return [Package((str(name),), str(values.get(self.pin) or "")) for name in given]
        named, _, version = str(given).partition("=")
        if named:
            return [Package((named,), version, "" if version else self._least(values))]
        distribution, release, _ = split(platform)
        keys = (f"{distribution}-{release}", distribution, manager)
        texts: Sequence[str] = next((self.names[key] for key in keys if key in self.names), ())
        return [self._package(text, values, kernel) for text in texts if kernel or "{kernel}" not in text]

    def all_names(self, values: Mapping[str, Any]) -> set[str]:
        """Whatever the distribution."""
        texts = {text for texts in self.names.values() for text in texts}
        return {name for text in texts for name in self._package(text, values, "").names}

    def _package(self, text: str, values: Mapping[str, Any], kernel: str) -> Package:
        version, least = str(values.get(self.pin) or ""), self._least(values)
        filled = text.format(branch=version.partition(".")[0], kernel=kernel)
        return Package(tuple(name.strip() for name in filled.split("|")), version, least)

    def is_there(self, answer: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
        """Whether a host that answered this has it, and not of too old a version."""
        found, least = {*answer["there"]} & {*self.there}, self._least(values)
        return any(is_least(answer["programs"].get(path, ""), least) for path in found)

    def _least(self, values: Mapping[str, Any]) -> str:
        return str(values.get(self.least[0]) or self.least[1]) if self.least else ""

    def concerns(self, values: Mapping[str, Any]) -> bool:
        asked = not self.when or self.equals or _is_set(values.get(self.when, self.default))
        return bool(asked) and self.is_chosen(values) and not _is_set(values.get(self.unless))

    def is_chosen(self, values: Mapping[str, Any]) -> bool:
        """Among others, of which one is installed."""
        return not self.equals or values.get(self.when, self.default) == self.equals


@cache
def needs() -> dict[str, tuple[Need, ...]]:
    """By role."""
    stored = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {role: tuple(Need(**entry) for entry in entries) for role, entries in stored.items()}


def needs_of(roles: Iterable[str]) -> list[Need]:
    return [need for role in roles for need in needs().get(role, ())]


def split(platform: str) -> tuple[str, str, str]:
    """Distribution, its version, processor: `debian-12-x86_64`."""
    distribution, release, machine = (["", "", *platform.rsplit("-", 2)])[-3:]
    return distribution, release, machine


def question(roles: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a host is asked, to know what it lacks."""
    found = needs_of(roles)
    paths = {path for need in found for path in need.there}
    programs = {path for need in found if need.least for path in need.there}
    pinned = {name for need in found if need.pin for name in need.all_names(values)}
    names = {"packages": sorted(pinned), "programs": sorted(programs)}
    return {"op": "packages", "paths": sorted(paths), **names}


def lacking(
    roles: Iterable[str], values: Mapping[str, Any], answer: Mapping[str, Any], offered: Mapping[str, str]
) -> list[Package]:
    """What the roles would install on a host that answered this, and is not `offered`, name -> version."""
    found: list[Package] = []
    for need in needs_of(roles):
        if not need.ask or not need.concerns(values) or need.is_there(answer, values):
            continue
        wanted = need.packages(answer["platform"], answer["manager"], values, answer["kernel"])
        if not (need.pin and any(package.fits(answer["versions"]) for package in wanted)):
            found += [package for package in wanted if not package.fits(offered)]
    return list(dict.fromkeys(found))


def is_version(found: str, wanted: str) -> bool:
    """Whether a package's version is this one of its maker's, whatever the distribution adds.

    `wanted` may be a pattern. Epochs do not count: not every list has them.
    """
    found, wanted = (re.sub(r"^\d+:", "", text) for text in (found, wanted))
    pattern = ".*".join(re.escape(part) for part in wanted.split("*"))
    return not wanted or bool(re.fullmatch(rf"{pattern}([-+~].*)?", found))


def is_least(found: str, least: str) -> bool:
    """Whether a version is that one or a later one; one that nobody knows is taken for it."""
    numbers = [_numbers(text) for text in (found, least)]
    return not all(numbers) or numbers[0] >= numbers[1]


def _numbers(version: str) -> list[int]:
    known = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return [int(part) for part in known.group(1).split(".")] if known else []


def _is_set(value: Any) -> bool:
    """Variables of an INI inventory are text."""
    return bool(value) and str(value).lower() not in ("false", "no", "off", "0")
