"""Many files as one stream of chunks, in the order of the manifest."""

from __future__ import annotations

import bisect
import hashlib
import json
import os

SMALLEST, LARGEST = 256 << 10, 8 << 20


def chunk_size(total: int) -> int:
    """Small enough that a long chain fills quickly, large enough that a large model has few thousand."""
    size = SMALLEST
    while size < LARGEST and size * 512 < total:
        size *= 2
    return size


def content_id(files: list[tuple[str, int, str]], chunk: int, written: str = "") -> str:
    """Names what is transferred; `written` where the sha256 of the files are not known."""
    return hashlib.sha256(json.dumps([files, chunk, written]).encode()).hexdigest()[:16]


def is_safe(path: str) -> bool:
    """A relative path that stays where it is put."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in parts)


class Layout:
    """Where each chunk's bytes lie in which files."""

    def __init__(self, files: list[tuple[str, int, str]], chunk: int) -> None:
        for path, size, _ in files:
            if not is_safe(path) or size < 0:
                raise ValueError("a manifest names %r" % path)
        self.files = files
        self.chunk = chunk
        self.starts: list[int] = []
        self.total = 0
        for _, size, _ in files:
            self.starts.append(self.total)
            self.total += size
        self.count = (self.total + chunk - 1) // chunk

    def length(self, index: int) -> int:
        return min(self.chunk, self.total - index * self.chunk)

    def spans(self, index: int) -> list[tuple[int, int, int, int]]:
        """(file, offset in it, offset in the chunk, length) of each part of a chunk."""
        if not 0 <= index < self.count:
            raise IndexError("chunk %d of %d" % (index, self.count))
        begin = index * self.chunk
        end = begin + self.length(index)
        number = bisect.bisect_right(self.starts, begin) - 1
        found = []
        while number < len(self.files) and self.starts[number] < end:
            low = max(begin, self.starts[number])
            high = min(end, self.starts[number] + self.files[number][1])
            if high > low:
                found.append((number, low - self.starts[number], low - begin, high - low))
            number += 1
        return found

    def file_of(self, index: int) -> str:
        """A chunk's first file, for people."""
        return self.files[self.spans(index)[0][0]][0]


def listing(folder: str) -> list[tuple[str, int, str]]:
    """The files below a directory, large ones last; what downloads and manifests left is no part of it."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in (".git", ".cache", "._____temp"))
        for name in sorted(names):
            path = os.path.join(base, name)
            if name.startswith(".flagprov-") or not os.path.isfile(path):
                continue
            found.append((os.path.relpath(path, folder), os.path.getsize(path), ""))
    return sorted(found, key=lambda entry: (entry[1] > 64 << 20, entry[0]))


def written(folder: str) -> str:
    """Another one after a file below the directory was written: sizes may stay when a content changes."""
    times = [[path, os.stat(os.path.join(folder, path)).st_mtime_ns] for path, _, _ in listing(folder)]
    return hashlib.sha256(json.dumps(times).encode()).hexdigest()[:16]
