"""A site's own programs and a webhook, told of each batch: for the pager, the chat, the change calendar."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flagprov.errors import HostError, InventoryError
from flagprov.models.fleet import Fleet
from flagprov.models.plan import Batch
from flagprov.proxies import outward

Phase = Literal["pre-batch", "post-batch", "on-failure"]
PHASES: tuple[Phase, ...] = ("pre-batch", "post-batch", "on-failure")
SCHEMA_VERSION = 1
PATIENCE_S = 600
WEBHOOK_S = 10


class Refused(Exception):
    """A program of the site says no."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """`flagprov_hooks` and `flagprov_webhook` of the inventory."""

    programs: Mapping[str, Path] = field(default_factory=dict)
    webhook: str = field(default="", repr=False)  # often with a token in it

    def tell(
        self,
        phase: Phase,
        release: str,
        batch: Batch,
        number: int,
        of: int,
        failures: Mapping[str, HostError] | None = None,
    ) -> str:
        """What went wrong with telling, in words; raises Refused where the program says no."""
        if not self.programs.get(phase) and not self.webhook:
            return ""
        document = {
            "schema_version": SCHEMA_VERSION,
            "phase": phase,
            "release": release,
            "batch": number,
            "of": of,
            "replicas": [replica.replica for replica in batch.replicas],
            "hosts": list(dict.fromkeys(host.host for replica in batch.replicas for host in replica.hosts)),
            "failures": {n: {"step": e.step, "message": e.message} for n, e in (failures or {}).items()},
        }
        text = json.dumps(document)
        trouble = self._post(text)
        program = self.programs.get(phase)
        if program:
            _run(program, text)
        return trouble

    def _post(self, text: str) -> str:
        if not self.webhook:
            return ""
        import httpx

        way = outward(httpx.create_ssl_context())
        try:
            with httpx.Client(transport=way, timeout=WEBHOOK_S) as client:
                answer = client.post(self.webhook, content=text, headers={"Content-Type": "application/json"})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"the webhook does not answer ({type(error).__name__})"
        return "" if answer.status_code < 400 else f"the webhook answers {answer.status_code}"


NO_HOOKS = Hooks()


def hooks_of(fleet: Fleet) -> Hooks:
    """One set for a fleet; raises InventoryError."""
    programs: dict[str, Path] = {}
    webhooks: dict[str, None] = {}
    for host in fleet.hosts:
        told = host.variables.get("flagprov_hooks") or {}
        if not isinstance(told, Mapping) or not set(told) <= set(PHASES):
            raise InventoryError(
                f"{host.name}: flagprov_hooks: a mapping of {', '.join(PHASES)} to programs is expected",
                remedy="flagprov_hooks={'pre-batch': 'hooks/pre-batch'}, beside the inventory",
            )
        for phase, named in told.items():
            programs[str(phase)] = _program(fleet, host.name, str(named))
        webhooks[str(host.variables.get("flagprov_webhook") or "")] = None
    urls: Sequence[str] = [url for url in webhooks if url]
    if len(urls) > 1:
        raise InventoryError("flagprov_webhook differs between hosts", remedy="set it for the whole fleet")
    return Hooks(programs, urls[0] if urls else "")


def _program(fleet: Fleet, host: str, named: str) -> Path:
    path = fleet.site.parent / named  # an absolute one stays what it is
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise InventoryError(
            f"{host}: flagprov_hooks: {path} is no program", remedy=f"Write it, and chmod +x {path}"
        )
    return path.absolute()


def _run(program: Path, text: str) -> None:
    try:
        done = subprocess.run(
            [program], input=text, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"{program} did not end within {PATIENCE_S} s") from None
    except OSError as error:
        raise Refused(f"{program}: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Refused(f"{program} ended with {done.returncode}" + (f": {said[0]}" if said else ""))
