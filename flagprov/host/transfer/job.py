"""A transfer as a job: its result comes when this host has everything, then it serves on for the others."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import threading
import time

from flagprov.host.transfer import manifest
from flagprov.host.transfer.layout import Layout
from flagprov.host.transfer.mounts import refuse_unmounted
from flagprov.host.transfer.node import Node
from flagprov.host.transfer.store import STEP, SWITCH_S, Incoming, Source, disk_trouble
from flagprov.host.wire import Blocked, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

LINGER_S = 30.0  # serves on for so long after the last one behind it was seen
GIVE_UP_S = 120.0
REPORT_S = 1.0
LAST_WORDS_S = 5.0
AT_SOURCE = "bring the right file there, or remove it so that it is fetched again, or lock the release anew"


def transfer(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the result once, and ends when nobody needs this node any more."""
    _forget_key(spec)
    sys.setswitchinterval(SWITCH_S)
    try:
        yield from _node(spec)
    except OSError as error:
        raise disk_trouble(error, spec["path"]) from None


def _node(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    layout = Layout([(path, size, digest or "") for path, size, digest in spec["files"]], spec["chunk"])
    if spec.get("source"):
        yield from _source(spec, layout)
        return
    refuse_unmounted(spec["path"])
    os.makedirs(os.path.dirname(spec["path"].rstrip("/")), exist_ok=True)
    if _is_there(spec, layout):
        _forget_others(spec["path"].rstrip("/"), "")
        yield {"changed": 0, "bytes": 0}
        return
    _forget_others(spec["path"].rstrip("/"), spec["content"])
    store = Incoming(spec["path"], layout, spec["content"])
    os.makedirs(store.folder, exist_ok=True)
    with open(os.path.join(store.folder, ".flagprov-lock"), "a+") as lock:
        if _waited(lock, spec) and _is_there(spec, layout):
            yield {"changed": 0, "bytes": 0}
            return
        progress("looking at what is there already")
        store.open()
        begun_with = store.bytes
        node = Node(spec, store)
        node.start()
        try:
            _arrive(node, store)
            moved = store.finish(spec.get("origin") or {})
            fcntl.flock(lock, fcntl.LOCK_UN)  # whoever waits for it finds everything there
            yield {"changed": moved, "bytes": store.bytes - begun_with, "damaged": node.damaged}
            _linger(spec, node)
        finally:
            node.stop()
            store.close()


def _waited(lock: TextIO, spec: dict[str, Any]) -> bool:
    """Take the lock; True where another one had it, on this host or on one that mounts the same share."""
    begun = time.monotonic()
    waited = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(socket.gethostname())
            lock.flush()
            return waited
        except (BlockingIOError, PermissionError):  # others: the file system knows no locks
            if time.monotonic() - begun >= float(spec.get("patience_s") or 0):
                lock.seek(0)
                who = lock.read() or "another host"
                words = "%s: another transfer brings it, on %s" % (spec["path"], who)
                raise Blocked(STEP, words, "wait for it, then run again") from None
        waited = True
        threading.Event().wait(0.2)


def _is_there(spec: dict[str, Any], layout: Layout) -> bool:
    """Without a lock the same sizes prove nothing: it has to be what the same transfer brought."""
    if not manifest.read(spec["path"]) or manifest.faults(spec["path"], layout.files):
        return False
    return all(digest for _, _, digest in layout.files) or manifest.brought(spec["path"]) == spec["content"]


def _forget_key(spec: dict[str, Any]) -> None:
    """The spec on the disk holds this run's key; from here on only this process has it."""
    try:
        os.unlink(os.path.join(os.path.dirname(spec.get("release_file") or "/nowhere/x"), "spec.json"))
    except OSError:
        pass


def _forget_others(target: str, content: str) -> None:
    """What was left of transfers to the same place that nobody works on any more."""
    folder, name = os.path.split(target)
    for other in os.listdir(folder):
        path = os.path.join(folder, other)
        mine = other == "%s.flagprov-%s" % (name, content)
        if not other.startswith(name + ".flagprov-") or mine or not os.path.isdir(path):
            continue
        with open(os.path.join(path, ".flagprov-lock"), "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(path, ignore_errors=True)


def _source(spec: dict[str, Any], layout: Layout) -> Iterator[dict[str, Any]]:
    store = Source(spec["path"], layout, host=spec.get("host") or "the source")
    node = Node(spec, store)
    node.start()
    try:
        if node.note:
            raise Blocked(STEP, node.note, "end what has that TCP port: the others come to it for the files")
        store.hash()
        if store.fault:
            _last_words()
            raise Blocked(STEP, store.fault, AT_SOURCE)
        assert store.sums is not None
        if not manifest.read(spec["path"]) and os.access(spec["path"], os.W_OK):
            manifest.write(spec["path"], store.sums, dict(spec.get("origin") or {}, found=True))
        moved = bring_here(spec, store) if spec.get("place") else 0
        yield {"changed": moved, "bytes": 0, "sums": store.sums}
        _linger(spec, node)
    finally:
        node.stop()


def bring_here(spec: dict[str, Any], source: Source) -> int:
    """The source's own host wants the files at another place: linked there, or copied."""
    here = dict(spec, path=spec["place"])
    refuse_unmounted(here["path"])
    if _is_there(here, source.layout):
        return 0
    os.makedirs(os.path.dirname(here["path"].rstrip("/")), exist_ok=True)
    store = Incoming(here["path"], source.layout, spec["content"])
    try:
        store.link(source)
        store.open()
        for index in range(store.layout.count):
            if not store.have[index]:
                store.write(index, *source.read(index))
        assert source.sums is not None
        store.vouch(source.sums, source.chunks)
        return store.finish(spec.get("origin") or {})
    finally:
        store.close()


def _arrive(node: Node, store: Incoming) -> None:
    """Wait for the last chunk; say how far it is, and give up when nothing comes for long.

    What we lack may lie behind much that we have, which the source has to hash first.
    """
    rates = [(time.monotonic(), store.bytes)]
    moved = said = time.monotonic()
    last = store.bytes, store.hashed
    orphan = False
    while not store.full:
        if node.broken:
            raise node.broken
        if store.fault:
            _last_words()
            raise Blocked(STEP, store.fault, AT_SOURCE)
        with store.changed:
            store.changed.wait(0.05)
        now = time.monotonic()
        if (store.bytes, store.hashed) != last:
            last, moved = (store.bytes, store.hashed), now
        elif now - moved > GIVE_UP_S:
            message = "nothing has arrived for %d s (%s)" % (now - moved, node.note or "no host has more")
            raise Blocked(STEP, message, "the hosts must reach each other at TCP port %d" % node.spec["port"])
        if now - said > REPORT_S or node.orphan != orphan:
            said, orphan = now, node.orphan
            rates = rates[-9:] + [(now, store.bytes)]
            _report(node, store, rates)
    _report(node, store, rates + [(time.monotonic(), store.bytes)])  # from here on it may be silent


def _report(node: Node, store: Incoming, rates: list[tuple[float, int]]) -> None:
    total = store.layout.total
    (begun, first), (now, last) = rates[0], rates[-1]
    rate = (last - first) / max(now - begun, 0.001)
    left = (total - last) / rate if rate > 0 else None
    text = "%d of %d MiB, %.0f MiB/s" % (last >> 20, total >> 20, rate / (1 << 20))
    if left is not None:
        text += ", %d s left" % left
    data = {"bytes": last, "total": total, "rate": round(rate), "from": node.sender}
    data["eta"] = None if left is None else round(left, 1)
    data["orphan"] = node.orphan
    if node.note:
        data["note"] = node.note
    progress(text, data)


def _last_words() -> None:
    """The ones behind us hear why nothing comes, instead of nothing."""
    threading.Event().wait(LAST_WORDS_S)


def _linger(spec: dict[str, Any], node: Node) -> None:
    """Serve the ones behind us until they are done; the controller may say so, or they fall silent."""
    release = spec.get("release_file") or ""
    linger = float(spec.get("linger_s") or LINGER_S)
    node.last_served = time.monotonic()
    never = threading.Event()
    while node.serving or time.monotonic() - node.last_served < linger:
        if release and os.path.exists(release) and not node.serving:
            return
        never.wait(0.2)


def hash_deep(spec: dict[str, Any]) -> dict[str, Any]:
    """Every byte of a directory against its manifest, or against the list that is given."""
    wanted = [(path, size, digest or "") for path, size, digest in spec["files"]]
    said = [0.0]

    def report(done: int, total: int) -> None:
        if time.monotonic() - said[0] > REPORT_S:
            said[0] = time.monotonic()
            progress("%d of %d MiB hashed" % (done >> 20, total >> 20), {"bytes": done, "total": total})

    if not wanted and not manifest.read(spec["path"]):
        raise Blocked(
            STEP,
            "%s has no manifest, and the release has no lock" % spec["path"],
            "flagprov releases lock writes the sha256 of every file",
        )
    return {"faults": manifest.deep_faults(spec["path"], wanted, report)}
