"""Many hosts at once, each with its own outcome."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from flagprov.errors import FlagprovError, HostError
from flagprov.models.fleet import Host

T = TypeVar("T")


def fan_out(
    hosts: Sequence[Host], function: Callable[[Host], T], width: int, step: str = "connect"
) -> dict[str, T | HostError]:
    """Calls the function for each host in threads; an error is that host's outcome, in the order of hosts.

    The threads are daemons: an interrupt in the caller ends the program without waiting for a dead host.
    """
    waiting: queue.SimpleQueue[Host] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, T | HostError]] = queue.SimpleQueue()
    for host in hosts:
        waiting.put(host)

    def work() -> None:
        while True:
            try:
                host = waiting.get_nowait()
            except queue.Empty:
                return
            done.put((host.name, _outcome(host, function, step)))

    for number in range(min(width, len(hosts))):
        threading.Thread(target=work, name=f"flagprov-{number}", daemon=True).start()
    try:
        found = dict(done.get() for _ in hosts)
    except BaseException:
        _drain(waiting)
        raise
    return {host.name: found[host.name] for host in hosts}


def _outcome(host: Host, function: Callable[[Host], T], step: str) -> T | HostError:
    try:
        return function(host)
    except HostError as error:
        return error
    except FlagprovError as error:
        return HostError(host.name, step, error.message, remedy=error.remedy)
    except Exception as error:  # a mistake of ours about one host must not hide the others
        message = f"{type(error).__name__}: {error}"
        return HostError(host.name, step, message, log=traceback.format_exc())


def _drain(waiting: queue.SimpleQueue[Host]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
