"""A blob arrives whole, however often its connection breaks."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from flagprov.distribute import registry as module
from flagprov.distribute.alone import alone
from flagprov.distribute.images import FromRegistry
from flagprov.distribute.layouts import fetch_layout
from flagprov.distribute.registry import MANIFESTS, Registry, WrongBytesError, sha256
from flagprov.errors import FlagprovError

DATA = os.urandom(5 << 20)
CONFIG = b'{"architecture": "amd64"}'


class Breaking(httpx.SyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        raise httpx.ReadError("reset by peer")


class Upstream:
    """A registry that breaks off every so often; its answers in memory."""

    def __init__(self) -> None:
        self.breaks = 0
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []
        self.registry = Registry("registry.example", "tiny")
        self.registry._client = httpx.Client(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        if "/manifests/" in request.url.path:
            parts = [{"digest": sha256(data), "size": len(data)} for data in (CONFIG, DATA)]
            return httpx.Response(
                200, json={"mediaType": MANIFESTS[0], "config": parts[0], "layers": parts[1:]}
            )
        data = CONFIG if request.url.path.endswith(sha256(CONFIG)) else DATA
        asked = request.headers.get("range")
        if data is DATA:
            self.asked.append(asked)
        if self.status != 200:
            return httpx.Response(self.status)
        begin = int(re.sub(r"\D", "", asked)) if asked and self.ranges else 0
        if begin >= len(data):
            return httpx.Response(416)
        rest, code = data[begin:], 206 if begin else 200
        if self.breaks and data is DATA:
            self.breaks -= 1
            return httpx.Response(code, stream=Breaking(rest[: (1 << 20) + 5]))
        return httpx.Response(code, content=rest)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Upstream:
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    return Upstream()


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_goes_on_where_it_was(upstream: Upstream, ranges: bool) -> None:
    upstream.breaks, upstream.ranges = 3, ranges
    assert b"".join(upstream.registry.blob(sha256(DATA))) == DATA
    assert upstream.asked == [None, "bytes=1048576-", *([f"bytes={n << 20}-" for n in (2, 3)] if ranges else
                              ["bytes=1048576-"] * 2)]  # fmt: skip


def test_after_five_tries_it_is_said(upstream: Upstream) -> None:
    upstream.status = 503
    with pytest.raises(FlagprovError, match="503"):
        list(upstream.registry.blob(sha256(DATA)))
    assert len(upstream.asked) == 5


def test_other_bytes_are_refused(upstream: Upstream) -> None:
    with pytest.raises(WrongBytesError):
        list(upstream.registry.blob("sha256:" + "0" * 64))


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (DATA[: 3 << 20], ["bytes=3145728-"]),
        (DATA, [f"bytes={len(DATA)}-"]),
        (b"something else", ["bytes=14-", None]),
    ],
)
def test_a_run_takes_up_what_the_one_before_left(
    upstream: Upstream, tmp_path: Path, left: bytes, asked: list[str | None]
) -> None:
    source = FromRegistry(upstream.registry, "registry.example/tiny:1")
    data, _ = source.registry.manifest("1")
    blobs = tmp_path / sha256(data)[7:39] / "blobs/sha256"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(DATA)[7:]}.part").write_bytes(left)
    layout = fetch_layout(source, source.reference, "amd64", (), tmp_path, lambda text: None)
    assert (layout.root / "blobs/sha256" / sha256(DATA)[7:]).read_bytes() == DATA
    assert upstream.asked == asked
    assert not list(tmp_path.rglob("*.part"))
    assert json.loads((layout.root / "index.json").read_text())["manifests"][0]["digest"] == sha256(data)


def test_an_image_that_does_not_fit_here_is_not_begun(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = len(DATA) + len(CONFIG) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    source = FromRegistry(upstream.registry, "registry.example/tiny:1")
    with pytest.raises(FlagprovError, match="MiB free, the image needs") as caught:
        fetch_layout(source, source.reference, "amd64", (), tmp_path, lambda text: None)
    assert "FLAGPROV_IMAGE_CACHE" in caught.value.remedy
    assert upstream.asked == []
    free += 1
    fetch_layout(source, source.reference, "amd64", (), tmp_path, lambda text: None)


def test_two_runs_do_not_fetch_into_one_file(upstream: Upstream, tmp_path: Path) -> None:
    source = FromRegistry(upstream.registry, "registry.example/tiny:1")
    root = tmp_path / sha256(source.registry.manifest("1")[0])[7:39]
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    with ThreadPoolExecutor() as pool, ExitStack() as other:
        other.enter_context(alone(root, lambda: None))
        fetching = pool.submit(fetch_layout, source, source.reference, "amd64", (), tmp_path, said.put)
        assert said.get(timeout=30) == "registry.example/tiny:1: another run is fetching it"
        assert upstream.asked == []
        assert (root / "blobs/sha256").is_dir()
        (root / "blobs/sha256" / sha256(DATA)[7:]).write_bytes(DATA)
        other.close()
        assert fetching.result(30).root == root
    assert upstream.asked == []


def test_a_blob_whose_name_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    outside = f"sha256:../../../{'a' * 52}"
    manifest = {"config": {"digest": sha256(CONFIG), "size": 1}, "layers": [{"digest": outside, "size": 1}]}
    registry = Registry("registry.example", "tiny")
    registry._client = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=manifest))
    )
    source = FromRegistry(registry, "registry.example/tiny:1")
    with pytest.raises(FlagprovError, match="no sha256"):
        fetch_layout(source, source.reference, "amd64", (), tmp_path, lambda text: None)
    assert not list(tmp_path.iterdir())
