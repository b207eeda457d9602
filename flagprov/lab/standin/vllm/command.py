"""`vllm`: the stand-in, or with STANDIN_LEAST in the environment as little of it as can be served."""

from __future__ import annotations

import os
import sys


def main() -> None:
    if os.environ.get("STANDIN_LEAST") and sys.argv[1:2] == ["serve"]:
        from .least import serve

        serve(sys.argv[2:])
    else:
        from .cli import main as whole

        whole()
