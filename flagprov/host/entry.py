"""The forced command of a replica's key on a host's own sshd: a command in that container, and nothing else.

Started by sshd as `python3 -I ENTRY CONTAINER`. What the caller wants has to have FlagScale's form,
`docker exec CONTAINER /bin/bash -c 'SCRIPT'`; no shell of this host ever reads it, and SCRIPT goes to the
launcher of that container as one word.
"""

from __future__ import annotations

import os
import shlex
import sys

DOOR = "/run/flagprov/exp/first/door"  # made by the launcher
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


def script(said: str, container: str) -> Optional[str]:
    """What is to run in the container; None where anything else was asked for."""
    try:
        words = shlex.split(said)
    except ValueError:
        return None
    form = ["docker", "exec", container, "/bin/bash", "-c"]
    return words[5] if len(words) == 6 and words[:5] == form else None


def main() -> None:
    container = sys.argv[1]
    wanted = script(os.environ.get("SSH_ORIGINAL_COMMAND", ""), container)
    if wanted is None:
        sys.exit("flagprov: this key is for `docker exec %s /bin/bash -c '...'` and nothing else" % container)
    # Nothing of the caller's environment: DOCKER_HOST, for one, would lead to another engine.
    os.execvpe("docker", ["docker", "exec", container, DOOR, wanted], {"PATH": os.environ.get("PATH", PATHS)})


if __name__ == "__main__":
    main()
