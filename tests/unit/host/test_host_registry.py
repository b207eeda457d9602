"""What dockerd hears of an image whose digests are locked."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.host import docker, registry

NAME = "r.example/m:1"
INDEX, CONFIG, OLD = ("sha256:" + letter * 64 for letter in "abc")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Name -> digest of what the registry has; the tag leads to a new image."""
    found = {NAME: INDEX}

    def call(method: str, path: str, **_: Any) -> Any:
        name = path.removeprefix("/distribution/").removesuffix("/json")
        if name not in found:
            raise docker.DockerError(404, "manifest unknown")
        return {"Descriptor": {"digest": found[name]}, "Platforms": [{"architecture": "amd64"}]}

    monkeypatch.setattr(docker, "call", call)
    monkeypatch.setattr(registry, "_configuration", lambda reference: CONFIG)
    return found


@pytest.mark.parametrize("locked", [[], [INDEX], [OLD, CONFIG]])
def test_a_tag_that_leads_to_a_locked_digest_can_be_pulled(there: dict[str, str], locked: list[str]) -> None:
    assert registry.ask(NAME, locked)["why"] == ""


def test_a_tag_that_was_moved_is_said_before_anything_is_pulled(there: dict[str, str]) -> None:
    assert "its tag was moved, or another processor's is locked" in registry.ask(NAME, [OLD])["why"]


def test_a_moved_tag_does_no_harm_while_the_locked_digest_is_there(there: dict[str, str]) -> None:
    there[f"r.example/m@{OLD}"] = OLD
    assert registry.ask(NAME, [OLD])["why"] == ""


def test_what_cannot_be_told_is_left_to_the_pull(
    there: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_configuration", lambda reference: "")
    assert registry.ask(NAME, [OLD])["why"] == ""
