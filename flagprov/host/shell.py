"""Running programs: argv lists only, never a shell."""

from __future__ import annotations


class Result:
    """What a program said."""

    __slots__ = ("code", "err", "out")

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def run(argv: list[str], timeout: float = 60.0, stdin: str | None = None) -> Result:
    """Code 127 where the program does not exist, 124 where it did not end in time."""
    import subprocess  # slow to import, and many a request runs nothing

    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout,
            universal_newlines=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return Result(127, "", "%s: not found" % argv[0])
    except PermissionError:
        return Result(126, "", "%s: not executable" % argv[0])
    except subprocess.TimeoutExpired:
        return Result(124, "", "%s did not end within %d s" % (argv[0], timeout))
    return Result(done.returncode, done.stdout, done.stderr)


def unit_state(unit: str) -> dict[str, str]:
    """ActiveState, SubState, UnitFileState, NRestarts, Result and LoadState of a systemd unit."""
    keys = "ActiveState,SubState,UnitFileState,NRestarts,Result,LoadState"
    answer = run(["systemctl", "show", "-p", keys, unit], timeout=20)
    pairs = (line.partition("=") for line in answer.out.splitlines())
    return {key: value for key, equals, value in pairs if equals}
