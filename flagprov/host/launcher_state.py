"""What the host and this launcher know of each other.

The host points `current` to the configuration that is to run; state.json says what does, and its age whether
the launcher itself goes on.
"""

from __future__ import annotations

import json
import os
import stat
import time
from typing import Any, Mapping, Optional

from flagprov.host.launcher_log import say

TOUCH_S = 2.0


class Current:
    """The link by which this launcher was called, as it was then; a plain directory never changes.

    `directory`: what it led to when the launcher was read; a link that leads elsewhere by now is a new one.
    """

    made_ns: Optional[int] = None

    def __init__(self, link: str, directory: str = "") -> None:
        self.link = link
        self.made_ns = self._made_ns()
        leads = os.path.realpath(link)
        self.directory = directory or leads
        if self.directory != leads:
            self.made_ns = 0

    def renewed(self) -> bool:
        return self._made_ns() != self.made_ns

    def _made_ns(self) -> Optional[int]:
        """When it was made; while there is none, nothing is new."""
        try:
            status = os.lstat(self.link)
        except OSError:
            return self.made_ns
        return status.st_mtime_ns if stat.S_ISLNK(status.st_mode) else self.made_ns


class State:
    """The file, replaced as a whole, and touched between two changes."""

    def __init__(self, run: str) -> None:
        self.path = os.path.join(run, "state.json")
        self.touched_at = 0.0

    def write(self, said: Mapping[str, Any]) -> None:
        try:
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump(dict(said, touch_s=TOUCH_S, phase_at=round(time.time(), 3)), file)
                file.write("\n")
            os.replace(self.path + ".new", self.path)
        except OSError as error:
            say("%s cannot be written: %s" % (self.path, error))

    def touch(self) -> None:
        now = time.monotonic()
        if now - self.touched_at >= TOUCH_S:
            self.touched_at = now
            try:
                os.utime(self.path)
            except OSError:
                pass
