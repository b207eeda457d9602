"""What goes wrong during a transfer: nothing wrong gets to its place, and the message says which file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flagprov.distribute.certificates import CONTROLLER, tls_name
from flagprov.distribute.offer import Offering, direct
from flagprov.host.resources import weights
from flagprov.host.transfer import manifest
from flagprov.host.transfer.layout import Layout
from flagprov.host.transfer.store import Source
from tests.integration.transfer_nodes import Hosts, Node
from tests.integration.transfer_wire import Wire

MODEL = 6 << 20
CAP = 3 << 20  # slow enough that something can happen half-way
QUICK = """
from flagprov.host.transfer import job, node, talk
node.GRACE_S, node.REST_S, node.CONNECT_S, talk.LAG_S = 1.0, 0.5, 0.5, 0.5
"""
IMPATIENT = f"{QUICK}job.GIVE_UP_S, job.LAST_WORDS_S = 3.0, 0.5\n"
DIES = """
import os, shutil, signal
def dies(module, name, at):
    real, calls = getattr(module, name), []
    def call(*words, **more):
        calls.append(words)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **more)
    setattr(module, name, call)
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    made = Hosts(tmp_path, 20000 + port % 9000)
    (made.source / "config.json").write_text("{}")
    (made.source / "model.bin").write_bytes(os.urandom(MODEL))
    yield made
    made.close()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        while stream.write(bytes(1 << 16)):
            pass


def flip(file: Path, offset: int = MODEL // 2) -> None:
    """As a disk does it: nobody wrote to the file."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def same(hosts: Hosts, *nodes: Node) -> bool:
    return all(hosts.same(node) and not manifest.deep_faults(str(node.path), []) for node in nodes)


# Disks


def test_a_full_disk_in_the_middle_stops_that_host_only(hosts: Hosts) -> None:
    with small_disk(hosts.folder / "middle", 2 * MODEL):
        hosts.start_source(cap=CAP)
        middle = hosts.start("middle", "origin")
        last = hosts.start("last", "middle", "origin", first=QUICK)
        middle.arrived(MODEL // 4)
        fill(hosts.folder / "middle" / "filler")
        error = middle.error()
        assert "middle/model.flagprov-" in error["message"], error
        assert error["message"].endswith("model.bin: No space left on device")
        assert error["remedy"].startswith("free space there")
        assert not middle.path.exists()
        last.result()
        (hosts.folder / "middle" / "filler").unlink()
        again = hosts.start("middle", "origin")
        assert again.result()["bytes"] < MODEL
        assert same(hosts, last, again)
        again.kill()


def test_a_disk_that_is_full_as_everything_moves_to_its_place(hosts: Hosts) -> None:
    """Every operation of the file system may be the one that fails."""
    fails = """
import os, errno
def fails(*words):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.fsync = fails
"""
    hosts.start_source()
    error = hosts.start("h1", "origin", first=fails).error()
    assert str(hosts.folder / "h1" / "model") in error["message"]
    assert "No space left on device" in error["message"] and "free space" in error["remedy"]
    again = hosts.start("h1", "origin")
    assert again.result()["bytes"] == 0
    assert same(hosts, again)


def test_what_a_disk_lost_between_two_runs_is_brought_anew(hosts: Hosts) -> None:
    hosts.start_source(cap=CAP)
    node = hosts.start("h1", "origin")
    node.arrived(MODEL // 2)
    node.kill()
    folder = next(path for path in node.path.parent.iterdir() if ".flagprov-" in path.name)
    flip(folder / "model.bin", MODEL // 8)
    again = hosts.start("h1", "origin")
    again.result()
    assert same(hosts, again)


def test_what_another_hosts_disk_lost_is_not_taken_from_it(hosts: Hosts) -> None:
    hosts.start_source()
    first = hosts.start("h1", "origin")
    first.result()
    flip(first.path / "model.bin")
    late = hosts.start("h2", "h1", "origin")
    assert late.result()["damaged"] > 0
    assert same(hosts, late)
    hosts.nodes["origin"].kill()
    lonely = hosts.start("h3", "h1", first=IMPATIENT)
    message = lonely.error()["message"]
    assert "h1: " in message and "damaged" in message and "model.bin" in message
    assert not lonely.path.exists()


# Kills


MOMENTS = [
    ("os", "fsync", 1),  # before anything is in its place
    ("os", "rename", 2),  # the first manifest; the first one is that of the map of chunks
    ("os", "rename", 3),
    ("os", "rename", 4),
    ("os", "rename", 6),  # the last file
    ("os", "rename", 7),  # the manifest
    ("shutil", "rmtree", 1),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[1]}-{moment[2]}")
@pytest.mark.parametrize("locked", [True, False], ids=["locked", "open"])
def test_a_kill_amid_the_last_steps_hides_nothing(
    hosts: Hosts, moment: tuple[str, str, int], locked: bool
) -> None:
    """Where no lock lists the files, a look knows of what is missing only by the manifest."""
    for name in ("pytorch_model-1.bin", "tokenizer.json"):
        (hosts.source / name).write_bytes(os.urandom(1000))
    (hosts.source / "model.bin").rename(hosts.source / "pytorch_model-2.bin")
    digest = manifest.file_digest
    files = [(p, s, digest(str(hosts.source / p)) if locked else "") for p, s, _ in hosts.content().files]
    hosts.start_source(files=files)
    module, name, count = moment
    killed = hosts.start("h1", "origin", files=files, first=f"{DIES}dies({module}, {name!r}, {count})")
    killed.until(lambda event: "end" in event)
    assert killed.process.wait(10) == -signal.SIGKILL
    if killed.path.exists():
        assert weights.observe({"path": str(killed.path)})["faults"] or same(hosts, killed)
    again = hosts.start("h1", "origin", files=files)
    again.result()
    assert same(hosts, again)
    assert [path.name for path in again.path.parent.iterdir()] == ["model"]


def test_a_kill_before_the_first_byte(hosts: Hosts) -> None:
    node = hosts.start("h1", "origin")
    node.until(lambda event: "event" in event)
    node.kill()
    hosts.start_source()
    again = hosts.start("h1", "origin")
    again.result()
    assert same(hosts, again)


@pytest.mark.thorough
def test_a_killed_source_comes_back_and_nobody_begins_anew(hosts: Hosts) -> None:
    hosts.start_source(cap=CAP)
    first = hosts.start("h1", "origin", first=QUICK)
    last = hosts.start("h2", "h1", "origin", first=QUICK)
    last.arrived(MODEL // 4)
    hosts.nodes["origin"].kill()
    first.until(lambda event: event.get("event", {}).get("data", {}).get("orphan"))
    hosts.start_source()
    assert first.result()["bytes"] == last.result()["bytes"] == hosts.content().total
    assert same(hosts, first, last)


def test_two_that_write_to_the_same_place(hosts: Hosts) -> None:
    hosts.start_source(cap=CAP)
    first = hosts.start("h1", "origin")
    first.arrived(1)
    path = str(first.path)
    error = hosts.start("h2", "origin", path=path).error()
    assert error["message"] == f"{path}: another transfer brings it, on {socket.gethostname()}"
    second = hosts.start("h3", "origin", path=path, patience_s=30)
    assert first.result()["changed"] == 2
    assert second.result() == {"changed": 0, "bytes": 0}
    assert same(hosts, first)


# Sources


def truncated(file: Path) -> None:
    os.truncate(file, MODEL // 2)


def gone(file: Path) -> None:
    file.unlink()


SPOILED = [(truncated, "became shorter while it was sent"), (gone, "No such file or directory")]


@pytest.mark.parametrize(("spoil", "words"), SPOILED, ids=["truncated", "gone"])
@pytest.mark.parametrize("where", ["a host", "the controller"])
def test_a_source_that_loses_a_file_is_named_with_it(
    hosts: Hosts, spoil: Callable[[Path], None], words: str, where: str
) -> None:
    first = hosts.start("h1", *(["origin"] if where == "a host" else []), first=IMPATIENT)
    last = hosts.start("h2", "h1", first=IMPATIENT)
    offering = None
    if where == "a host":
        hosts.start_source(cap=CAP, host="nas1")
    else:
        content = hosts.content()
        store = Source(str(hosts.source), Layout(list(content.files), content.chunk), 4, "the controller")
        offering = Offering(store, hosts.authority.issue(CONTROLLER, []), content.id, CAP)
        offering.start()
        offering.offer("h1", tls_name("h1"), [direct("127.0.0.1", hosts.port_of("h1"))])
    try:
        first.arrived(MODEL // 4)
        spoil(hosts.source / "model.bin")
        for node in (first, last):
            error = node.error()
            named = "nas1" if where == "a host" else where
            assert error["message"].startswith(f"{named}: {hosts.source}/model.bin"), error
            assert words in error["message"]
            assert "bring the right file there" in error["remedy"]
            assert not node.path.exists()
    finally:
        if offering:
            offering.stop()


def test_a_source_that_changes_behind_its_hashes_is_named_with_the_file(hosts: Hosts) -> None:
    hosts.start_source().result()
    flip(hosts.source / "model.bin")
    node = hosts.start("h1", "origin", first=IMPATIENT)
    message = node.error()["message"]
    assert "origin: " in message and "damaged, the last one of model.bin" in message
    assert not node.path.exists()


def test_a_source_whose_port_is_taken_says_so_at_once(hosts: Hosts) -> None:
    with socket.create_server(("", hosts.port)):
        error = hosts.start_source().error()
    assert f"port {hosts.port}: Address already in use" in error["message"]
    assert "TCP port" in error["remedy"]


# Networks


@pytest.fixture
def wire(hosts: Hosts) -> Iterator[Wire]:
    """Between the source and h1."""
    hosts.start_source(cap=CAP)
    made = Wire(hosts.port_of("origin"))
    yield made
    made.close()


def behind(wire: Wire, hosts: Hosts, first: str = QUICK) -> Node:
    peers = [{**peer, "port": wire.port} for peer in hosts.spec("h1", ["origin"])["peers"]]
    return hosts.start("h1", peers=peers, first=first)


def noted(event: dict[str, object]) -> bool:
    words: object = event.get("event")
    return isinstance(words, dict) and bool(words["data"].get("note"))


def test_a_byte_that_changes_on_its_way_arrives_as_it_was(hosts: Hosts, wire: Wire) -> None:
    wire.flip_at(MODEL // 3)
    node = behind(wire, hosts)
    node.result()
    assert wire.count == 2  # TLS hangs up, and it is taken up from there
    assert same(hosts, node)


@pytest.mark.thorough
def test_a_network_that_is_away_for_a_moment(hosts: Hosts, wire: Wire) -> None:
    node = behind(wire, hosts)
    node.arrived(MODEL // 4)
    wire.cut()
    node.until(noted)
    wire.mend()
    node.result()
    assert same(hosts, node)


def test_a_network_that_stays_away_is_said_with_host_and_port(hosts: Hosts, wire: Wire) -> None:
    node = behind(wire, hosts, IMPATIENT)
    node.arrived(MODEL // 4)
    wire.cut()
    error = node.error()
    assert "nothing has arrived for" in error["message"] and "origin: " in error["message"]
    assert "TCP port" in error["remedy"]
    assert not node.path.exists()
    wire.mend()
    again = hosts.start("h1", "origin")
    assert again.result()["bytes"] < MODEL
    assert same(hosts, again)


def test_a_host_that_hangs_is_gone_around_and_comes_later(hosts: Hosts) -> None:
    hosts.start_source(cap=CAP)
    middle = hosts.start("h1", "origin", first=QUICK)
    last = hosts.start("h2", "h1", "origin", first=QUICK)
    last.arrived(MODEL // 4)
    middle.process.send_signal(signal.SIGSTOP)
    last.result()
    middle.process.send_signal(signal.SIGCONT)
    middle.result()
    assert same(hosts, middle, last)


def test_a_host_that_never_starts_is_stepped_over(hosts: Hosts) -> None:
    hosts.start_source()
    hosts.spec("h1", ["origin"])
    last = hosts.start("h2", "h1", "origin", first=QUICK)
    last.result()
    assert same(hosts, last)


@pytest.mark.thorough
def test_a_host_that_sends_slowly_does_not_hold_up_the_ones_behind_it(hosts: Hosts) -> None:
    (hosts.source / "model.bin").write_bytes(os.urandom(4 * MODEL))
    hosts.start_source(cap=8 << 20)
    hosts.start("h1", "origin", cap=768 << 10)
    last = hosts.start("h2", "h1", "origin", first=QUICK)
    last.until(lambda event: event.get("event", {}).get("data", {}).get("from") == "origin")
    last.result()
    assert same(hosts, last)
