"""The chunks that a node has: a source's files, or what has arrived so far and where it is kept."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading

from flagprov.host.transfer import manifest
from flagprov.host.transfer.layout import Layout
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STEP = "weights"
RECENT = 3  # chunks that stay in memory after they were written
RECORD = 36  # a chunk's index and digest in the map
SPARE = 256 << 20  # stays free on the file system
SWITCH_S = 0.001  # a thread that sends waits no longer than this for one that hashes


class Store:
    """What can be served: chunks by index, each with the digest that the source gave it."""

    def __init__(self, folder: str, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        self.have = bytearray(layout.count)
        self.digests: dict[int, bytes] = {}
        self.changed = threading.Condition()
        self.sums: dict[str, str] | None = None  # path -> sha256, from the source, when it has hashed all
        self.chunks = b""  # the digests of all chunks, from then on
        self.fault = ""  # why this will never be complete
        self.bytes = 0
        self.hashed = 0  # how far the source has come, in bytes
        self.asked = 0  # the first chunk that somebody lacks

    def ask(self, index: int) -> None:
        with self.changed:
            if index > self.asked:
                self.asked = index
                self.changed.notify_all()

    def read(self, index: int) -> tuple[bytes, memoryview]:
        """Digest and data of a chunk that is here."""
        try:
            data = self.data(index)
        except FileNotFoundError:
            data = self.data(index)  # it was moved to its place meanwhile
        digest = self.digests.get(index)  # none: it lay here, whole, before the transfer
        return digest or hashlib.sha256(data).digest(), data

    def data(self, index: int) -> memoryview:
        data = bytearray(self.layout.length(index))
        view = memoryview(data)
        for number, offset, start, length in self.layout.spans(index):
            try:
                with open(self.place(number), "rb", buffering=0) as stream:
                    stream.seek(offset)
                    got = 0
                    while got < length:
                        count = stream.readinto(view[start + got : start + length])
                        if not count:
                            raise Blocked(STEP, "%s became shorter while it was sent" % self.place(number))
                        got += count
            except OSError as error:  # of a read it does not say the file
                raise OSError(error.errno, error.strerror, self.place(number)) from None
        return view

    def place(self, number: int) -> str:
        return os.path.join(self.folder, self.layout.files[number][0])

    @property
    def full(self) -> bool:
        """Every chunk is here, and the source has vouched for the whole."""
        return self.bytes == self.layout.total and self.sums is not None

    def got(self, index: int, digest: bytes | None) -> None:
        with self.changed:
            if not self.have[index]:
                self.have[index] = 1
                self.bytes += self.layout.length(index)
            if digest is not None:
                self.digests[index] = digest
            self.changed.notify_all()

    def vouch(self, sums: dict[str, str], chunks: bytes) -> None:
        with self.changed:
            self.sums, self.chunks = sums, chunks
            self.changed.notify_all()

    def fail(self, fault: str) -> None:
        with self.changed:
            self.fault = self.fault or fault
            self.changed.notify_all()


class Source(Store):
    """Files that are here; a chunk can be served as soon as it is hashed.

    `ahead` chunks are hashed before somebody asks, where others need the processor more. `host` is where they
    are, for the ones that hear of a fault.
    """

    def __init__(self, folder: str, layout: Layout, ahead: int = 0, host: str = "the source") -> None:
        super().__init__(folder, layout)
        self.ahead = ahead or layout.count
        self.host = host
        self._over = False

    def stop(self) -> None:
        """Nobody asks any more."""
        with self.changed:
            self._over = True
            self.changed.notify_all()

    def _wanted(self, index: int) -> bool:
        """Waits until somebody asks; False where nobody will."""
        with self.changed:
            while index >= self.asked + self.ahead and not self._over:
                self.changed.wait()
        return not self._over

    def useless(self, why: Blocked | OSError) -> None:
        """A file cannot be read any more: nobody can have it from here."""
        problem = why if isinstance(why, Blocked) else disk_trouble(why, self.folder)
        self.fail("%s: %s" % (self.host, problem.message))

    def hash(self) -> None:
        """One pass over every byte that is sent; a file that differs from the lock ends it."""
        try:
            self._hash()
        except (OSError, Blocked) as error:
            self.useless(error)

    def _hash(self) -> None:
        files = self.layout.files
        before = [manifest.stamp(self.place(number)) for number in range(len(files))]
        shas = [hashlib.sha256() for _ in files]
        for index in range(self.layout.count):
            if not self._wanted(index):
                return
            data = self.data(index)
            for number, _, start, length in self.layout.spans(index):
                shas[number].update(data[start : start + length])
            self.got(index, hashlib.sha256(data).digest())
            self.hashed = self.bytes
        sums = {}
        for number, (path, _, digest) in enumerate(files):
            found = sums[path] = shas[number].hexdigest()
            if digest and digest != found:
                words = "%s: %s has sha256 %s, lock or manifest say %s"
                self.fail(words % (self.host, self.place(number), found, digest))
                return
            if manifest.stamp(self.place(number)) != before[number]:
                self.fail("%s: %s changed while it was read" % (self.host, self.place(number)))
                return
        self.vouch(sums, b"".join(self.digests[index] for index in range(self.layout.count)))


class Incoming(Store):
    """What arrives, in a directory beside the target, with a map of it that outlives the process."""

    def __init__(self, target: str, layout: Layout, content: str) -> None:
        self.target = target.rstrip("/")
        super().__init__("%s.flagprov-%s" % (self.target, content), layout)
        self.content = content
        self.kept: set[int] = set()  # files that lie whole in the target already
        self.linked: set[int] = set()  # files that are another's, too
        self._recent: dict[int, memoryview] = {}  # what the next one is about to ask for
        self._map = -1

    def data(self, index: int) -> memoryview:
        recent = self._recent.get(index)
        return super().data(index) if recent is None else recent

    def link(self, source: Source) -> None:
        """Take a source's files of this host for our own, as far as one file system holds both."""
        for number, (path, _, _) in enumerate(self.layout.files):
            place = os.path.join(self.folder, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            try:
                if os.path.exists(place):
                    os.unlink(place)
                os.link(os.path.realpath(source.place(number)), place)
            except OSError:
                return
            self.linked.add(number)

    def open(self) -> None:
        """Keep what is whole, take up what an earlier run left, and make sure that the rest fits."""
        os.makedirs(self.folder, exist_ok=True)
        self._keep()
        self._take_up()
        self._fits()
        for number, (_, size, _) in enumerate(self.layout.files):
            if number in self.kept or number in self.linked:
                continue
            place = self.place(number)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "ab") as stream:
                stream.truncate(size)

    def place(self, number: int) -> str:
        if number in self.kept:
            return os.path.join(self.target, self.layout.files[number][0])
        return super().place(number)

    def _keep(self) -> None:
        known = manifest.read(self.target)
        for number, (path, size, digest) in enumerate(self.layout.files):
            entry = known.get(path)
            if entry and digest and (entry["sha256"], entry["size"]) == (digest, size):
                if manifest.unchanged(self.target, entry):
                    self.kept.add(number)
        for index in range(self.layout.count):
            if all(span[0] in self.kept or span[0] in self.linked for span in self.layout.spans(index)):
                self.got(index, None)

    def _take_up(self) -> None:
        path = os.path.join(self.folder, ".flagprov-map")
        head = json.dumps({"content": self.content, "chunk": self.layout.chunk})
        records = b""
        try:
            with open(path, "rb") as stream:
                stored, records = json.loads(stream.readline()), stream.read()
        except (OSError, ValueError):
            stored = {}
        same = stored.get("content") == self.content and stored.get("chunk") == self.layout.chunk
        claimed = _records(records, self.layout.count) if same else {}
        beside = path + ".new"
        self._map = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.write(self._map, head.encode() + b"\n")
        for index, digest in sorted(claimed.items()):
            if not self.have[index] and self._holds(index, digest):  # a disk may lose what it was given
                os.write(self._map, index.to_bytes(4, "big") + digest)
                self.got(index, digest)
        os.rename(beside, path)

    def _holds(self, index: int, digest: bytes) -> bool:
        try:
            return hashlib.sha256(self.data(index)).digest() == digest
        except (OSError, Blocked):
            return False

    def _fits(self) -> None:
        status = os.statvfs(self.folder)
        free = status.f_bavail * status.f_frsize
        need = self.layout.total - self.bytes
        if need + min(SPARE, need // 10) > free:
            raise Blocked(
                STEP,
                "%s has %d MiB free, %d more MiB are on their way" % (self.target, free >> 20, need >> 20),
                "free space there, or set flagprov_weights_root to a larger file system",
            )

    def write(self, index: int, digest: bytes, data: memoryview) -> None:
        """A chunk that has its digest; its place in the map is written last."""
        if self.have[index]:
            return
        number = -1
        try:
            for number, offset, start, length in self.layout.spans(index):
                if number in self.kept or number in self.linked:
                    continue
                descriptor = os.open(self.place(number), os.O_WRONLY)
                try:
                    done = 0
                    while done < length:
                        done += os.pwrite(descriptor, data[start + done : start + length], offset + done)
                finally:
                    os.close(descriptor)
            os.write(self._map, index.to_bytes(4, "big") + digest)
        except OSError as error:
            raise disk_trouble(error, self.place(number)) from None
        self._recent[index] = data
        for old in list(self._recent)[:-RECENT]:
            self._recent.pop(old, None)
        self.got(index, digest)

    def differing(self, chunks: bytes) -> list[int]:
        """Chunks that arrived and are not those of the source: what an earlier run left may be others."""
        size = hashlib.sha256().digest_size
        return [
            i for i, digest in sorted(self.digests.items()) if chunks[size * i : size * (i + 1)] != digest
        ]

    def forget(self, index: int) -> None:
        with self.changed:
            if self.have[index]:
                self.have[index] = 0
                self.bytes -= self.layout.length(index)
            self.digests.pop(index, None)
            self._recent.pop(index, None)

    def finish(self, origin: dict[str, Any]) -> int:
        """Everything to the disk, then to its place, the manifest last; returns the files that changed."""
        assert self.sums is not None
        for number, (path, size, digest) in enumerate(self.layout.files):
            place = self.place(number)
            if digest and self.sums.get(path) != digest:
                raise Blocked(STEP, "%s: the source vouches for another content than the lock" % path)
            if number not in self.kept:
                if os.path.getsize(place) != size:
                    words = "%s: %d bytes instead of %d; something else writes to it"
                    raise Blocked(STEP, words % (place, os.path.getsize(place), size), "run again")
                _sync(place)
        sums = {path: self.sums[path] for path, _, _ in self.layout.files}
        origin = dict(origin, content=self.content)
        os.makedirs(self.target, exist_ok=True)
        manifest.promise(self.target, sums, origin, self.folder)
        moved = 0  # the old manifest vouches for no file that takes another's place: its stamp differs
        for number, (path, _, _) in enumerate(self.layout.files):
            if number not in self.kept:
                place = os.path.join(self.target, path)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                if number not in self.linked:
                    os.chmod(self.place(number), 0o644)
                os.rename(self.place(number), place)
                moved += 1
                self.kept.add(number)
        _sync(self.target)
        manifest.settle(self.target, sums, origin)
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return moved

    def close(self) -> None:
        if self._map >= 0:
            os.close(self._map)
            self._map = -1


def disk_trouble(error: OSError, path: str) -> Blocked:
    """An error of the file system, with its file and the way out."""
    what = "free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend the file system"
    message = "%s: %s" % (error.filename or path, error.strerror or error)
    return Blocked(STEP, message, "%s, then run again: what has arrived is kept" % what)


def _records(data: bytes, count: int) -> dict[int, bytes]:
    """Index -> digest; a record that a kill cut short is left out."""
    found = {}
    for start in range(0, len(data) - RECORD + 1, RECORD):
        index = int.from_bytes(data[start : start + 4], "big")
        if index < count:
            found[index] = data[start + 4 : start + RECORD]
    return found


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
