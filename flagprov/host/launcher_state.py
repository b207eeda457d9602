"""state.json: what the host may know of this launcher. Its age says whether the launcher itself goes on."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Mapping

from flagprov.host.launcher_log import say

TOUCH_S = 2.0


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
