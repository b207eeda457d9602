"""Looking at a thousand hosts starts a thousand Pythons: a look at what serves imports little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SLOW = ("subprocess", "hashlib", "calendar", "typing", "http.client", "urllib.request")


def test_status_imports_nothing_slow() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import flagprov.host.main, flagprov.host.status; "
        f"print(*(name for name in {SLOW!r} if name in sys.modules))"
    )
    # -S as on a host: site packages are free to import what they like
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
