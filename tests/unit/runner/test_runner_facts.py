"""The probe's answer as a value."""

from __future__ import annotations

from dataclasses import fields

import pytest

from flagprov.errors import VersionError
from flagprov.models.image import ImageFacts
from flagprov.runner.facts import parse_facts

ANSWER = {
    "schema_version": 1,
    "arch": "aarch64",
    "python": "3.11.2",
    "vllm": "0.8.5",
    "options": ["port", "host"],
    "flagscale": "0.8.0",
    "flagscale_deploy": "experiment.deploy",
    "flaggems": "2.2",
    "flaggems_enable": ["lib", "unused"],
    "flaggems_error": "without an accelerator: no device",
    "flaggems_by": "vllm",
    "torch": "2.6.0",
    "ray": "2.55.0",
    "cuda": "12.4",
    "cann": "8.1.RC1",
    "ssh": True,
    "sshd": True,
    "user": 1000,
    "users": {"root": 0, "vllm": 1000},
    "env": {"PATH": "/usr/bin"},
    "errors": {},
    "added_later": 1,
}


def test_all_parts() -> None:
    facts = parse_facts("sha256:a", ANSWER)
    assert (facts.digest, facts.vllm, facts.options) == ("sha256:a", "0.8.5", ("port", "host"))
    assert facts.flaggems_enable == ("lib", "unused")
    assert facts.env == {"PATH": "/usr/bin"}


def test_no_part_that_the_probe_tells_is_lost() -> None:
    """A lost one looks like a part that the image does not have."""
    facts = parse_facts("sha256:a", ANSWER)
    for name in {field.name for field in fields(ImageFacts)} - {"digest"}:
        kept, told = getattr(facts, name), ANSWER[name]
        assert kept == (tuple(told) if isinstance(told, list) else told), name


def test_a_part_that_could_not_be_read_is_none() -> None:
    facts = parse_facts("sha256:a", {"arch": "x86_64", "options": None, "vllm": None})
    assert facts.vllm is None and facts.options == () and not facts.sshd


def test_users_are_numbers() -> None:
    facts = parse_facts("sha256:a", {"user": "me", "users": {"me": 7, "you": "8", "they": -1}})
    assert (facts.user, facts.users) == (0, {"me": 7})
    assert parse_facts("sha256:a", {"users": ["me"]}).users == {}


def test_a_newer_answer_is_refused() -> None:
    with pytest.raises(VersionError):
        parse_facts("sha256:a", {"schema_version": 2})
