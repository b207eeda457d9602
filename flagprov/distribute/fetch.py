"""Fetching from a hub on the controller, with the hub's own client in a child process."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flagprov.distribute.alone import alone
from flagprov.errors import FlagprovError
from flagprov.host import fetch as client
from flagprov.host.transfer import manifest
from flagprov.host.transfer.layout import listing
from flagprov.models.event import Event

OnEvent = Callable[[Event], None]
_PACKAGES = {"modelscope": "modelscope", "hf": "huggingface_hub"}


def python_for(source: str) -> str:
    """The Python that has the hub's client: this one, or the one that FLAGPROV_FETCH_PYTHON names."""
    return os.environ.get("FLAGPROV_FETCH_PYTHON") or sys.executable


def ask_source(
    operation: str,
    source: str,
    revision: str | None,
    folder: Path | None = None,
    report: Callable[[int], None] | None = None,
    environment: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """`list`: revision and files of a source; `get`: the same after everything was downloaded."""
    request: dict[str, Any] = {"op": operation, "source": source, "revision": revision, "only": list(only)}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        request["folder"] = str(folder)
    python = python_for(source)
    try:
        return client.ask(python, request, dict(environment or os.environ), report)
    except client.FetchError as error:
        raise FlagprovError(f"{source}: {error}", remedy=_remedy(source, str(error), folder)) from None
    except OSError as error:
        if error.filename != python:
            raise
        raise FlagprovError(
            f"{source}: {python} cannot be started: {(error.strerror or str(error)).lower()}",
            remedy="let FLAGPROV_FETCH_PYTHON name a Python that has the hub's client",
        ) from None


def fetch_here(
    source: str, revision: str | None, folder: Path, on_event: OnEvent
) -> list[tuple[str, int, str]]:
    """Download into a directory of the controller; resumed, checked, and listed with every sha256."""
    step = f"fetch {source}"

    def say(kind: Any, text: str, data: Mapping[str, Any] | None = None) -> None:
        on_event(Event(time.time(), "", kind, "weights", step, text, data=dict(data or {})))

    say("started", "")
    listed = ask_source("list", source, revision)
    with alone(folder, lambda: say("progress", f"another run is filling {folder}")):
        _fits(folder, sum(int(size) for _, size, _ in listed["files"]))
        answer = ask_source(
            "get",
            source,
            revision,
            folder,
            lambda have: say("progress", f"{have >> 20} MiB downloaded", {"bytes": have}),
        )
        files = checked(folder, answer)
    say("done", "")
    return files


def _fits(folder: Path, total: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if total - have > free:
        raise FlagprovError(
            f"{folder} has {free >> 20} MiB free, the download needs {(total - have) >> 20} more",
            remedy="Let FLAGPROV_WEIGHTS_CACHE name a directory with room.",
        )


def checked(folder: Path, answer: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Every file of the list is there with the hub's sha256; hashed once, then kept in a manifest."""
    known = manifest.read(str(folder))
    sums: dict[str, str] = {}
    files = []
    for path, size, digest in answer["files"]:
        entry = known.get(path)
        full = folder / path
        if entry and manifest.unchanged(str(folder), entry):
            found = str(entry["sha256"])
        elif not full.is_file() or full.stat().st_size != size:
            raise FlagprovError(f"{full}: the download is not whole", remedy="run the command again")
        else:
            found = manifest.file_digest(str(full))
        if digest and digest != found:
            full.unlink()
            raise FlagprovError(
                f"{full}: its sha256 is {found}, the hub says {digest}; it was removed",
                remedy="run the command again",
            )
        sums[path] = found
        files.append((path, int(size), found))
    there = {path for path, _, _ in listing(str(folder))}
    manifest.write(str(folder), {p: s for p, s in sums.items() if p in there}, {})
    return files


def _remedy(source: str, error: str, folder: Path | None) -> str:
    if client.is_full(error):
        return f"free space in {folder}, then run again; FLAGPROV_WEIGHTS_CACHE may name another directory"
    package = _PACKAGES.get(client.scheme_of(source), "")
    if package and f"No module named '{package}" in error:
        return "pip install 'flagprov[fetch]', or let FLAGPROV_FETCH_PYTHON name a Python that has it"
    return "check network, proxies (HTTPS_PROXY), mirrors (MODELSCOPE_ENDPOINT, HF_ENDPOINT) and token"
