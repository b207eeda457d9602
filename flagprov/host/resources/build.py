"""The container of a build, which goes where no job works with it any more: what a kill left behind."""

from __future__ import annotations

from flagprov.host import build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    return {"left": spec["container"] in build.left()}


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    return [("remove", "its build was killed", "nothing")] if observed["left"] else []


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    build.remove(spec["container"])
