"""The registry on loopback gives dockerd what has arrived, part by part, and notes what it lacks."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from flagprov.host import docker, oci
from flagprov.host.wire import Blocked

A, B, C = "a" * 64, "b" * 64, "c" * 64
SPEC = {"reference": "r/m:1", "manifest": f"sha256:{A}", "digests": []}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Two parts, and a third one that is on its way."""
    for part, digest in (("one", A), ("two", B), ("two.flagprov-x", C)):
        blob = tmp_path / part / "blobs/sha256" / digest
        blob.parent.mkdir(parents=True)
        blob.write_text(digest[0])
    return tmp_path


def get(address: str, digest: str) -> bytes:
    url = f"http://{address}/v2/{oci.REPOSITORY}/blobs/sha256:{digest}"
    found: bytes = build_opener(ProxyHandler({})).open(url).read()
    return found


def test_blobs_come_from_all_parts(image: Path) -> None:
    with oci.Registry(str(image)) as registry:
        address = f"127.0.0.1:{registry.port}"
        assert (get(address, A), get(address, B)) == (b"a", b"b")
        assert registry.missing == set()
        with pytest.raises(HTTPError, match="404"):
            get(address, C)
        assert registry.missing == {f"sha256:{C}"}


@pytest.mark.parametrize("asked", [A, C])
def test_what_dockerd_asks_for_and_is_not_there_is_the_answer(
    asked: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(name: str, headers: Any) -> None:
        with contextlib.suppress(HTTPError):
            get(name.partition("/")[0], asked)
        raise docker.DockerError(500, "it cannot")

    monkeypatch.setattr(oci, "pull_by_name", pull)
    if asked == C:
        assert oci.load({**SPEC, "path": str(image)}) == {"id": "", "missing": [f"sha256:{C}"]}
        return
    with pytest.raises(Blocked, match="it cannot"):
        oci.load({**SPEC, "path": str(image)})
