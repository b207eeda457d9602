"""Chunks of many files, maps of what has arrived, and manifests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagprov.distribute.content import content_of
from flagprov.host import fetch
from flagprov.host.resources import weights
from flagprov.host.transfer import frames, job, manifest, mounts, talk
from flagprov.host.transfer.layout import LARGEST, Layout, chunk_size, is_safe, listing, written
from flagprov.host.transfer.mounts import storage, unmounted
from flagprov.host.transfer.store import Incoming, Source
from flagprov.host.wire import Blocked


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 20))
def test_the_spans_of_all_chunks_are_all_files(sizes: list[int], chunk: int) -> None:
    layout = Layout([(f"f{number}", size, "") for number, size in enumerate(sizes)], chunk)
    spans = [span for index in range(layout.count) for span in layout.spans(index)]
    covered = {(number, offset + n) for number, offset, _, length in spans for n in range(length)}
    assert covered == {(number, n) for number, size in enumerate(sizes) for n in range(size)}
    assert sum(layout.length(index) for index in range(layout.count)) == sum(sizes)


@given(st.integers(0, 1 << 42))
def test_chunks_are_few_and_small(total: int) -> None:
    assert total / chunk_size(total) <= 512 or chunk_size(total) == LARGEST


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\0b", "."])
def test_paths_that_lead_elsewhere(path: str) -> None:
    assert not is_safe(path)
    with pytest.raises(ValueError, match="names"):
        Layout([(path, 1, "")], 1)


@given(st.binary(max_size=200).map(bytearray))
def test_a_map_survives_a_greeting(have: bytearray) -> None:
    assert frames.unpacked(frames.packed(have), len(have)) == have


def test_a_map_of_another_length_is_refused() -> None:
    with pytest.raises(frames.Broken):
        frames.unpacked(frames.packed(bytearray(5)), 6)


def filled(folder: Path, names: dict[str, bytes]) -> list[tuple[str, int, str]]:
    for name, data in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return listing(str(folder))


def moved(source: Source, incoming: Incoming) -> None:
    for index in range(source.layout.count):
        digest, data = source.read(index)
        incoming.write(index, digest, data)
    assert source.sums is not None
    incoming.vouch(source.sums, source.chunks)


def test_files_go_through_chunks_to_their_place(tmp_path: Path) -> None:
    files = filled(tmp_path / "a", {"one": os.urandom(1000), "sub/two": b"", "three": b"x" * 77})
    source = Source(str(tmp_path / "a"), Layout(files, 64))
    source.hash()
    incoming = Incoming(str(tmp_path / "b"), Layout(files, 64), "id")
    incoming.open()
    moved(source, incoming)
    assert incoming.full and not (tmp_path / "b").exists()
    assert incoming.finish({"source": "s"}) == 3
    assert (tmp_path / "b" / "one").read_bytes() == (tmp_path / "a" / "one").read_bytes()
    assert manifest.faults(str(tmp_path / "b"), files) == []
    assert not list(tmp_path.glob("b.flagprov*"))


@pytest.mark.parametrize("linked", [True, False])
def test_the_sources_own_host_has_them_at_its_place(
    tmp_path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = filled(tmp_path / "a", {"one": os.urandom(1000), "sub/two": b"2"})
    if not linked:

        def refuse(*_: object) -> None:
            raise OSError(18, "another file system")

        monkeypatch.setattr(os, "link", refuse)
    source = Source(str(tmp_path / "a"), Layout(files, 64))
    source.hash()
    spec = {"path": source.folder, "place": str(tmp_path / "x" / "b"), "content": "id"}
    assert job.bring_here(spec, source) == 2
    for name in ("one", "sub/two"):
        here, there = tmp_path / "a" / name, tmp_path / "x" / "b" / name
        assert here.read_bytes() == there.read_bytes()
        assert here.samefile(there) == linked
    assert not manifest.faults(spec["place"], files)
    assert job.bring_here(spec, source) == 0
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["b"]


def test_what_does_not_have_the_locks_sha256_never_gets_to_its_place(tmp_path: Path) -> None:
    files = filled(tmp_path / "a", {"one": b"1234"})
    source = Source(str(tmp_path / "a"), Layout(files, 64))
    source.hash()
    incoming = Incoming(str(tmp_path / "b"), Layout([("one", 4, "0" * 64)], 64), "id")
    incoming.open()
    moved(source, incoming)
    with pytest.raises(Blocked, match="one"):
        incoming.finish({})
    incoming.close()
    assert not (tmp_path / "b" / "one").exists()


def test_another_content_of_the_same_size_is_another_transfer(tmp_path: Path) -> None:
    files = filled(tmp_path, {"a.bin": b"12"})
    os.utime(tmp_path / "a.bin", ns=(1, 1))
    before = content_of(files, written=written(str(tmp_path)))
    assert before.id == content_of(files, written=written(str(tmp_path))).id
    (tmp_path / "a.bin").write_bytes(b"21")
    assert before.id != content_of(listing(str(tmp_path)), written=written(str(tmp_path))).id
    locked = [("a.bin", 2, "0" * 64)]  # a lock says it all
    assert content_of(locked, written="now").id == content_of(locked, written="then").id


def test_chunks_that_an_earlier_run_left_are_held_against_the_source(tmp_path: Path) -> None:
    files = filled(tmp_path / "a", {"one": b"1234567812345678"})
    source = Source(str(tmp_path / "a"), Layout(files, 8))
    source.hash()
    incoming = Incoming(str(tmp_path / "b"), Layout(files, 8), "id")
    incoming.open()
    incoming.write(0, *source.read(0))
    incoming.write(1, hashlib.sha256(b"87654321").digest(), memoryview(bytearray(b"87654321")))
    assert incoming.differing(source.chunks) == [1]
    incoming.forget(1)
    assert incoming.bytes == 8
    incoming.write(1, *source.read(1))
    assert incoming.differing(source.chunks) == []
    incoming.close()


def test_a_source_is_hashed_whatever_its_manifest_says(tmp_path: Path) -> None:
    """A disk that lost a bit leaves size, time and inode as they were."""
    filled(tmp_path, {"a.bin": b"12"})
    manifest.write(str(tmp_path), {"a.bin": hashlib.sha256(b"21").hexdigest()}, {})
    digest = manifest.read(str(tmp_path))["a.bin"]["sha256"]
    source = Source(str(tmp_path), Layout([("a.bin", 2, digest)], 64))
    source.hash()
    assert source.sums is None and source.fault.startswith(f"the source: {tmp_path}/a.bin has sha256")


def test_locked_files_that_nobody_hashed_here_are_hashed_against_the_lock(tmp_path: Path) -> None:
    filled(tmp_path, {"config.json": b"{}", "a.bin": b"12"})
    files = [(n, s, manifest.file_digest(str(tmp_path / n))) for n, s, _ in listing(str(tmp_path))]
    spec = {"path": str(tmp_path), "remedy": "r", "fetch": True, "files": files}
    assert [change[0] for change in weights.diff(spec, weights.observe(spec), set())] == ["check"]
    (tmp_path / "a.bin").write_bytes(b"21")
    with pytest.raises(Blocked, match=r"a\.bin"):
        weights.apply(spec, weights.observe(spec))
    (tmp_path / "a.bin").write_bytes(b"12")
    weights.apply(spec, weights.observe(spec))
    assert weights.diff(spec, weights.observe(spec), set()) == []
    assert manifest.read(str(tmp_path))["a.bin"]["sha256"] == {n: d for n, _, d in files}["a.bin"]


def test_a_share_that_is_only_read_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    filled(model, {"config.json": b"{}", "a.bin": b"12"})
    files = [(n, s, manifest.file_digest(str(model / n))) for n, s, _ in listing(str(model))]
    real = manifest.replace

    def replace(path: str, data: bytes, mode: int) -> None:
        if path.startswith(str(model)):
            raise OSError(30, "Read-only file system")
        real(path, data, mode)

    monkeypatch.setattr(manifest, "replace", replace)
    monkeypatch.setattr(manifest, "ELSEWHERE", str(tmp_path / "state"))
    spec = {"path": str(model), "remedy": "r", "fetch": True, "files": files}
    weights.apply(spec, weights.observe(spec))
    assert weights.diff(spec, weights.observe(spec), set()) == []
    assert manifest.found(str(model))  # prune leaves alone what others brought


def arrived(folder: Path, target: Path, names: dict[str, bytes]) -> Incoming:
    """Everything is beside the target, and nothing is in its place yet."""
    source = Source(str(folder), Layout(filled(folder, names), 64))
    source.hash()
    incoming = Incoming(str(target), source.layout, "id")
    incoming.open()
    moved(source, incoming)
    return incoming


@pytest.mark.parametrize("ours", [True, False])
def test_what_the_old_version_had_and_the_new_one_has_not_goes(tmp_path: Path, ours: bool) -> None:
    """An engine would load shards that belong to nothing; but what somebody else brought stays his."""
    target = tmp_path / "b"
    old = filled(target, {"model.bin": b"4321", "model-2.bin": b"22", "lora/x": b"x"})
    manifest.write(str(target), {path: "0" * 64 for path, _, _ in old}, {} if ours else {"found": True})
    (target / "mine.txt").write_text("not flagprov's")
    arrived(tmp_path / "a", target, {"model.bin": b"1234"}).finish({})
    names = sorted(p.name for p in target.iterdir() if not p.name.startswith("."))
    assert names == ["mine.txt", "model.bin"] if ours else ["lora", "mine.txt", "model-2.bin", "model.bin"]
    assert manifest.found(str(target)) != ours  # so that prune leaves it alone, too
    assert (target / "model.bin").read_bytes() == b"1234"


@pytest.mark.parametrize("ours", [True, False])
def test_a_download_takes_only_what_an_earlier_one_brought(tmp_path: Path, ours: bool) -> None:
    target, folder = tmp_path / "b", tmp_path / "b.flagprov-fetch"
    old = filled(target, {"model.bin": b"4321", "lora/x": b"x"})
    manifest.write(str(target), {path: "0" * 64 for path, _, _ in old}, {} if ours else {"found": True})
    filled(folder, {"model.bin": b"1234"})
    spec = {"source": "hf://me/tiny"}
    fetch._put(spec, str(folder), str(target), [["model.bin", 4, ""]])
    assert (target / "lora" / "x").exists() != ours
    assert manifest.found(str(target)) != ours
    assert (target / "model.bin").read_bytes() == b"1234"


def test_a_kill_amid_the_moves_loses_nothing_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the new files are in place the old manifest stays: it says what differs, and whose it is."""
    target = tmp_path / "b"
    old = filled(target, {"model-1.bin": b"4321", "model-2.bin": b"22", "model-3.bin": b"3"})
    sums = {path: manifest.file_digest(str(target / path)) for path, _, _ in old}
    manifest.write(str(target), sums, {"found": True})
    incoming = arrived(tmp_path / "a", target, {"model-1.bin": b"12345678", "model-2.bin": b"21"})
    rename = os.rename

    def killed(source: str, place: str) -> None:
        if place.endswith("model-2.bin"):
            raise KeyboardInterrupt
        rename(source, place)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        incoming.finish({})
    incoming.close()
    monkeypatch.setattr(os, "rename", rename)
    assert (target / "model-2.bin").exists() and (target / "model-3.bin").exists()
    assert manifest.found(str(target))
    assert manifest.faults(str(target), [(n, e["size"], "") for n, e in manifest.read(str(target)).items()])
    arrived(tmp_path / "a", target, {"model-1.bin": b"12345678", "model-2.bin": b"21"}).finish({})
    assert not manifest.deep_faults(str(target), [])
    assert manifest.found(str(target)) and (target / "model-3.bin").exists()


def test_a_written_file_is_hashed_again_before_it_is_served(tmp_path: Path) -> None:
    filled(tmp_path, {"config.json": b"{}", "a.bin": b"12"})
    manifest.write(
        str(tmp_path), {n: manifest.file_digest(str(tmp_path / n)) for n in ("config.json", "a.bin")}, {}
    )
    spec = {"path": str(tmp_path), "remedy": "r", "fetch": True}
    assert weights.diff(spec, weights.observe(spec), set()) == []
    os.utime(tmp_path / "a.bin", ns=(1, 1))
    observed = weights.observe(spec)
    assert [change[0] for change in weights.diff(spec, observed, set())] == ["check"]
    weights.apply(spec, observed)
    assert weights.diff(spec, weights.observe(spec), set()) == []
    (tmp_path / "a.bin").write_bytes(b"21")
    with pytest.raises(Blocked, match=r"a\.bin"):
        weights.apply(spec, weights.observe(spec))


def test_every_byte_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    filled(tmp_path, {"a.bin": b"12", "b.bin": b"34"})
    sums = {name: manifest.file_digest(str(tmp_path / name)) for name in ("a.bin", "b.bin")}
    manifest.write(str(tmp_path), sums, {})
    assert manifest.deep_faults(str(tmp_path), []) == []
    (tmp_path / "b.bin").write_bytes(b"43")
    assert [fault.split(":")[0] for fault in manifest.deep_faults(str(tmp_path), [])] == ["b.bin"]


def test_a_share_that_is_not_mounted(tmp_path: Path) -> None:
    fstab, mounts = tmp_path / "fstab", tmp_path / "mounts"
    fstab.write_text("# disks\n/dev/sda1 / ext4 defaults 0 1\nfiler:/export /nfs nfs defaults 0 0\n")
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    assert unmounted("/nfs/models/x", str(fstab), str(mounts)) == "/nfs"
    assert unmounted("/srv/models/x", str(fstab), str(mounts)) == ""
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\nfiler:/export /nfs nfs4 rw 0 0\n")
    assert unmounted("/nfs/models/x", str(fstab), str(mounts)) == ""
    assert storage("/nfs/models/x", str(mounts)) == "nfs4 filer:/export models/x"
    assert storage("/srv/models", str(mounts)) == ""


def test_nothing_is_written_below_a_mount_point_without_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "unmounted", lambda path: "/nfs")
    monkeypatch.setattr(weights, "unmounted", lambda path: "/nfs")
    path = str(tmp_path / "nfs" / "model")
    spec = {"path": path, "files": [("a.bin", 2, "")], "chunk": 64, "content": "id", "place": path}
    with pytest.raises(Blocked, match=r"/nfs is in /etc/fstab and not mounted"):
        next(job.transfer(spec))
    with pytest.raises(Blocked, match=r"/nfs is in /etc/fstab and not mounted"):
        fetch.fetch({"source": "https://hub/x", "path": path})
    assert not (tmp_path / "nfs").exists()
    filled(tmp_path / "nfs" / "model", {"a.bin": b"1"})  # of an accident before
    look = {"path": path, "remedy": "r", "fetch": True}
    assert weights.diff(look, weights.observe(look), set())[0][0] == "block"


def goes_around(said: list[tuple[int, dict[str, int]]], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each second what a receiver has by then, and what the one before it says of itself."""
    store = SimpleNamespace(layout=SimpleNamespace(chunk=1, total=1000), bytes=0)
    receiver = talk.Receiver(store, lambda count: None)  # type: ignore[arg-type]
    clock = [0.0]
    monkeypatch.setattr("flagprov.host.transfer.talk.time.monotonic", lambda: clock[0])
    for second, (has, told) in enumerate(said, 1):
        clock[0], store.bytes = float(second), has
        try:
            receiver._alive(told, True)
        except talk.Behind:
            return True
    return False


@pytest.mark.parametrize(("given", "goes"), [(2, True), (5, False)])
def test_a_host_that_gives_slowly_is_gone_around(
    given: int, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets ten chunks per second."""
    said = [(given * second, {"bytes": 10 * second, "before": 10 * second}) for second in range(30)]
    assert goes_around(said, monkeypatch) == goes


def test_a_full_disk_of_a_download_has_its_own_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> None:
        raise fetch.FetchError("OSError: [Errno 28] No space left on device")

    monkeypatch.setattr(fetch, "ask", ask)
    path = tmp_path / "model"
    with pytest.raises(Blocked) as caught:
        fetch.fetch({"source": "https://hub/x", "path": str(path)})
    assert caught.value.remedy.startswith(f"free space in {path}.flagprov-fetch")


@pytest.mark.parametrize(("before", "goes"), [(10, True), (2, False), (0, False)])
def test_a_host_that_holds_everybody_up_is_gone_around(
    before: int, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks per second of the one before the one before us, which itself gets two."""
    said = [(2 * second, {"bytes": 2 * second, "before": 100 + before * second}) for second in range(30)]
    assert goes_around(said, monkeypatch) == goes
