"""What this controller's own disk refuses ends what needs it, and is said like any other failure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flagprov.errors import FlagprovError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def on_disk(folder: Path, variable: str = "") -> Iterator[None]:
    """Around what is read and written in `folder`, which `variable` may lead elsewhere."""
    try:
        yield
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        if error.errno in _FULL:  # an error of writing does not say the file
            ours = " (flagprov prune)" if ".flagprov" in folder.parts else ""  # it leaves others alone
            elsewhere = f", or let {variable} name a directory with room" if variable else ""
            raise FlagprovError(
                f"{folder} on this controller: {said}",
                remedy=f"make room there{ours}{elsewhere}; then run the command again",
            ) from None
        raise FlagprovError(
            f"{error.filename or folder} on this controller: {said}",
            remedy="see that this controller may read and write there, then run the command again",
        ) from None
