"""What flagprov keeps beside an inventory, in `.flagprov/`: image facts, locks, runs, what it deployed."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagprov.errors import VersionError
from flagprov.models.desired import Replica
from flagprov.models.image import SCHEMA_VERSION, ImageFacts
from flagprov.models.runner import RunnerKeys

_KEYS, _LOCKS = threading.Lock(), threading.Lock()


@dataclass(frozen=True, slots=True)
class Site:
    root: Path
    named: dict[str, ImageFacts] = field(default_factory=dict, compare=False, repr=False)

    def lock_file(self, release: str) -> Path:
        return self.root / "locks" / f"{release}.json"

    def known_hosts(self) -> Path:
        return self.root / "known_hosts"

    def facts(self, key: str) -> ImageFacts | None:
        """Image facts found before; None where this image was never looked into."""
        if key in self.named:
            return self.named[key]
        stored = self._read(self.root / "images" / f"{key}.json")
        if stored is None:
            return None
        if stored.get("schema_version", 0) != SCHEMA_VERSION:
            return None
        from flagprov.runner.facts import parse_facts

        return parse_facts(stored["digest"], stored)

    def name_facts(self, key: str, facts: ImageFacts) -> None:
        """Of an image that is known by its name alone: the next run may find another one there."""
        self.named[key] = facts

    def save_facts(self, key: str, facts: ImageFacts) -> None:
        self._write(self.root / "images" / f"{key}.json", dataclasses.asdict(facts))

    def lock_image(self, release: str, chip: str, reference: str, digest: str) -> None:
        """Pin an image that had no digest yet: a tag is trusted once, never twice."""
        path = self.lock_file(release)
        with _LOCKS:  # hosts of several chips come to it side by side
            lock = self._read(path) or {"schema_version": 1, "variants": {}}
            variant = lock["variants"].setdefault(chip, {})
            locked = variant.setdefault("references", {}).setdefault(reference, [])
            if digest not in locked:
                locked.append(digest)
                self._write(path, lock)

    def deployed(self) -> dict[str, dict[str, Any]]:
        """Replica -> what was deployed last, for hosts that do not answer now."""
        stored = self._read(self.root / "deployed.json") or {}
        replicas = stored.get("replicas")
        return dict(replicas) if isinstance(replicas, dict) else {}

    def save_deployed(self, replicas: Mapping[str, Mapping[str, Any]]) -> None:
        if replicas != self.deployed():
            self._write(self.root / "deployed.json", {"schema_version": 1, "replicas": replicas})

    def remember(self, replicas: Iterable[Replica]) -> None:
        """So that a host which stops answering is still counted with what it served."""
        known = self.deployed()
        for replica in replicas:
            known[replica.name] = {
                "replica": replica.name,
                "release": replica.release,
                "chip": replica.chip,
                "hosts": list(replica.hosts),
                "port": replica.port,
                **({"slot": replica.slot} if replica.slot else {}),
            }
        self.save_deployed(known)

    def forget(self, release: str | None, hosts: Collection[str]) -> None:
        """Replicas that are gone from all their hosts; of every release where none is named."""
        kept = {
            name: replica
            for name, replica in self.deployed().items()
            if release not in (None, replica["release"]) or not set(replica["hosts"]) <= set(hosts)
        }
        gone = self.deployed().keys() - kept.keys()
        for path in (self.root / "runner").glob("*.json"):
            if path.stem in kept or not (release is None or path.stem.startswith(f"{release}-")):
                continue
            # Of what never came up, the file alone says where it was to be: on our hosts, or another fleet's.
            meant = (self._read(path) or {}).get("hosts", ())
            if path.stem in gone or set(meant) <= set(hosts):
                path.unlink(missing_ok=True)
        self.save_deployed(kept)

    def runner_keys(self, replica: str, hosts: Sequence[str]) -> RunnerKeys:
        """A replica's own keys; made where there are none yet, once for all of its hosts."""
        path = self.root / "runner" / f"{replica}.json"
        with _KEYS:  # hosts are thought about side by side
            stored = self._read(path)
            if stored is None:
                from flagprov.runner_keys import make_runner_keys

                stored = {"schema_version": 1, "hosts": list(hosts), **dataclasses.asdict(make_runner_keys())}
                self._write(path, stored, mode=0o600)
        return RunnerKeys(**{field.name: str(stored[field.name]) for field in dataclasses.fields(RunnerKeys)})

    def new_run(self, verb: str) -> Path:
        """A private directory for one run's plan, events and report."""
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        for attempt in range(1000):
            path = self.root / "runs" / (f"{name}-{verb}" + (f"-{attempt}" if attempt else ""))
            self._folder(path.parent)
            try:
                path.mkdir(mode=0o700)
            except FileExistsError:
                continue
            return path
        raise FileExistsError(name)

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(value, dict):
            return None
        if value.get("schema_version", 1) > 1:
            raise VersionError(
                f"{path}: written by a newer flagprov", remedy="update flagprov on this controller"
            )
        return value

    def _write(self, path: Path, value: Mapping[str, Any], mode: int = 0o644) -> None:
        self._folder(path.parent)
        beside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(value, indent=1, sort_keys=True) + "\n")
        beside.replace(path)

    def _folder(self, path: Path) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
