"""`python -m flagprov.lab up --hosts 2 | down | status | clean`."""

from __future__ import annotations

import argparse
import sys

from flagprov import lab
from flagprov.errors import FlagprovError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flagprov.lab")
    parser.add_argument("verb", choices=("up", "down", "status", "clean"))
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args()
    try:
        if given.verb == "up":
            lab.up(given.hosts, bare=given.bare, on_progress=_say)
        elif given.verb == "status":
            for host in lab.status().hosts:
                _say(repr(host))
        else:
            getattr(lab, given.verb)(_say)
    except FlagprovError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
