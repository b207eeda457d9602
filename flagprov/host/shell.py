"""Running programs: argv lists only, never a shell."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess


class Result:
    """What a program said."""

    __slots__ = ("code", "err", "out")

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


def run(argv: list[str], timeout: float = 60.0, stdin: str | None = None) -> Result:
    """Code 127 where the program does not exist, 124 where it did not end in time."""
    return _end(_begin(argv, stdin is not None), timeout, stdin)


def together(commands: list[list[str]], timeout: float = 60.0) -> list[Result]:
    """Side by side, results in their order: tools of drivers take a second each."""
    begun = [_begin(argv) for argv in commands]
    deadline = time.monotonic() + timeout
    return [_end(each, max(0.1, deadline - time.monotonic())) for each in begun]


def _begin(argv: list[str], stdin: bool = False) -> subprocess.Popen[str] | Result:
    import subprocess  # slow to import, and many a request runs nothing

    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            errors="replace",
        )
    except FileNotFoundError:
        return Result(127, "", "%s: not found" % argv[0])
    except PermissionError:
        return Result(126, "", "%s: not executable" % argv[0])


def _end(begun: subprocess.Popen[str] | Result, timeout: float, stdin: str | None = None) -> Result:
    import subprocess

    if isinstance(begun, Result):
        return begun
    with begun as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            process.kill()
            return Result(124, "", "%s did not end within %d s" % (late.cmd[0], timeout))
        except BaseException:
            process.kill()
            raise
    return Result(process.returncode, out, err)


class AtOnce:
    """While it holds, what `unit_state` says of these units comes from one question to systemd: for looks."""

    now: AtOnce | None = None

    def __init__(self, units: set[str]) -> None:
        self.units = tuple(sorted(units))
        self.states: dict[str, dict[str, str]] = {}

    def __enter__(self) -> None:
        AtOnce.now = self

    def __exit__(self, *error: object) -> None:
        AtOnce.now = None


def unit_state(unit: str) -> dict[str, str]:
    """ActiveState, SubState, NRestarts, Result and LoadState of a systemd unit."""
    at_once = AtOnce.now
    if at_once is None or unit not in at_once.units:
        return _unit_states((unit,))[unit]
    at_once.states = at_once.states or _unit_states(at_once.units)
    return at_once.states[unit]


def _unit_states(units: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """systemctl is a process, and as dear for one unit as for many; it answers in their order."""
    keys = "ActiveState,SubState,NRestarts,Result,LoadState"
    answer = run(["systemctl", "show", "-p", keys] + list(units), timeout=20)
    blocks = answer.out.strip().split("\n\n")
    found: dict[str, dict[str, str]] = {unit: {} for unit in units}
    if len(blocks) == len(units):
        for unit, block in zip(units, blocks):
            pairs = (line.partition("=") for line in block.splitlines())
            found[unit] = {key: value for key, equals, value in pairs if equals}
    return found
