"""What build steps changed in a container, as an image layer: a tar archive on standard output.

One file, run inside the container by the image's own python3; docker's list of changes comes on standard
input. Equal changes give equal bytes: sorted, with one time for all.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

DELETED = 2
TIME = 315532800  # 1980, the first that zip archives know
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
# What the container has for its own life, and where the steps did their work.
OUTSIDE = (
    *(
        "flagprov",
        "flagprov-build",
        "flagprov-pip.conf",
        "flagprov-authorities.crt",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var/tmp",
    ),
    *(".dockerenv", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"),
)


def write(changes: list[dict[str, Any]], out: IO[bytes], root: str = "/") -> None:
    found = sorted((str(change["Path"]).strip("/").split("/"), int(change["Kind"])) for change in changes)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for parts, kind in found:
            name = "/".join(parts)
            if any(name == each or name.startswith(each + "/") for each in OUTSIDE):
                continue
            path = os.path.join(root, name)
            if os.path.lexists(path):
                _add(archive, path, name)
                if kind == DELETED and os.path.isdir(path) and not os.path.islink(path):
                    _mark(archive, "%s/%s" % (name, OPAQUE))  # made anew: nothing beneath shows through
            elif kind == DELETED:
                _mark(archive, "/".join([*parts[:-1], WHITEOUT + parts[-1]]))


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    entry = archive.gettarinfo(path, name)
    if entry is None:  # a socket
        return
    entry.mtime, entry.uname, entry.gname = TIME, "", ""
    if not entry.isreg():
        archive.addfile(entry)
        return
    with open(path, "rb") as stream:
        archive.addfile(entry, stream)


def _mark(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = TIME
    archive.addfile(entry)


if __name__ == "__main__":
    write(json.load(sys.stdin), sys.stdout.buffer)
