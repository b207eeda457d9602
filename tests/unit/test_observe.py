"""A pass asks a host once where it can."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from flagprov.host.history import asked
from flagprov.models.desired import Resource, Stage
from flagprov.models.observed import Survey
from flagprov.observe import first_look, survey_for
from flagprov.transport import Session

WANTED = Resource("directory", "/srv", Stage.CONFIG, {"path": "/srv"}, "m-0")
LOOK: Mapping[str, Any] = {"digest": "d", "changes": [], "problems": [], "notes": {"at": "once"}}
ANSWER: Mapping[str, Any] = {
    "arch": "x86_64",
    "os": "Debian",
    "kernel": "6",
    "cpus": 2,
    "memory_mib": 1,
    "docker_version": "20",
    "provisioned": None,
    "devices": {},
    "running": [],
    "records": {},
    "facts": {},
}


class FakeSession:
    """Answers surveys and looks, and counts."""

    def __init__(self, looked: Mapping[str, Any] | None) -> None:
        self.host = SimpleNamespace(name="h1")
        self.looked = looked
        self.asked: list[str] = []

    def ask(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(payload["op"])
        if payload["op"] == "survey":
            return {**ANSWER, "looked": self.looked}
        return {**LOOK, "notes": {"at": "second"}}


def passes(looked: Mapping[str, Any] | None) -> tuple[list[str], Any]:
    fake = FakeSession(looked)
    session = cast(Session, fake)
    survey: Survey = survey_for(session, "m", ())
    return fake.asked, first_look(session, survey, [WANTED]).notes["at"]


def test_a_host_that_has_what_it_was_given_is_asked_once() -> None:
    assert passes({"asked": asked([WANTED.wire()]), "look": LOOK}) == (["survey"], "once")


def test_what_was_given_before_says_nothing_of_what_is_wanted_now() -> None:
    assert passes({"asked": asked([]), "look": LOOK}) == (["survey", "look"], "second")


def test_a_host_with_nothing_deployed_is_asked_again() -> None:
    assert passes(None) == (["survey", "look"], "second")
