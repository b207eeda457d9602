"""Ranks of a replica: launchers that meet, start together and end together, each as a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from launch_inputs import inputs
from launching import Running, launched, write

from flagprov.host.launcher_processes import descendants, processes
from flagprov.models.desired import Node, Replica
from flagprov.runner.render import render

READY = "Application startup complete."
GOODBYE = "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(0)))"
ENGINE = [sys.executable, "-u", "-c", f"import signal, sys; {GOODBYE}; print('{READY}'); signal.pause()"]
HEADLESS = [sys.executable, "-u", "-c", f"import signal, sys; {GOODBYE}; print('headless'); signal.pause()"]
NUMBERS = itertools.count(1)


def loopback() -> str:
    """An address that no other test has."""
    pid = os.getpid()
    return f"127.{1 + pid % 250}.{pid // 250 % 250}.{next(NUMBERS)}"


def rank(
    folder: Path,
    number: int,
    address: str,
    *,
    token: str = "t",
    argv: list[str] | None = None,
    gone_s: float = 10,
) -> AbstractContextManager[Running]:
    peers = {"hosts": ["a", "b"], "address": address, "port": 47811, "token": token, "gone_s": gone_s}
    argv = argv or (HEADLESS if number else ENGINE)
    return launched(folder / f"{number}-{token}", argv=argv, rank=number, peers=peers, stop_grace_s=5)


def test_no_engine_starts_before_all_ranks_are_there(tmp_path: Path) -> None:
    address = loopback()
    with rank(tmp_path, 0, address) as head:
        assert "rank 1 on b" in head.until("waiting for")
        with rank(tmp_path, 1, address) as worker:
            worker.until("headless")
            head.until(READY)
    assert head.lines.index("flagprov: all 2 ranks are there") < head.lines.index(READY)


def test_a_cards_own_script_is_started_on_every_node_after_they_have_met(tmp_path: Path) -> None:
    """As it is rendered: each node runs the script of its own number, and the head does a step more."""
    name = f"exec sh {tmp_path}/rank$NODE_RANK.sh"
    script = "echo rank $NODE_RANK of $NNODES at $MASTER_ADDR:$MASTER_PORT; {0}exec sleep 1000"
    write(tmp_path, {"rank0.sh": script.format(f"echo {READY}; "), "rank1.sh": script.format("")})
    address = loopback()
    nodes = (Node("a", address, "lo"), Node("b", "127.0.0.1", "lo"))
    replica = Replica("r-0", "r", "cpu-x86", ("a", "b"), (0,), 9010, nodes)
    launch = {"kind": "command", "command": ["sh", "-c", name], "head_before_start": ["echo of the head"]}
    head_files, worker_files = (
        render(inputs(launch=launch, replica=replica, rank=number, stop_grace_s=5)) for number in (0, 1)
    )
    said = f"of 2 at {address}:10010"
    with launched(tmp_path / "0", files=unshared(head_files)) as head:
        head.until("waiting for")
        with launched(tmp_path / "1", files=unshared(worker_files)) as worker:
            assert worker.until("rank 1") == f"rank 1 {said}"
            assert head.until("rank 0") == f"rank 0 {said}"
            head.until(READY)
            assert head.lines.index("of the head") < head.lines.index(f"rank 0 {said}")
            assert "of the head" not in worker.lines
            worker.process.kill()
            assert "rank 1 on b ended" in head.until("the engine was ended")


def unshared(files: dict[str, str]) -> dict[str, str]:
    """This machine's /dev/shm is not the launcher's own."""
    document = json.loads(files["launch.json"]) | {"own_shm": False}
    return files | {"launch.json": json.dumps(document)}


def test_what_it_waits_for_is_in_its_state(tmp_path: Path) -> None:
    with rank(tmp_path, 1, loopback()) as worker:
        worker.until("waiting for")
        worker.process.terminate()
        assert worker.finish() == 0
        assert "headless" not in worker.lines


def test_a_rank_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    address = loopback()
    for killed in (0, 1):
        with (
            rank(tmp_path / str(killed), 0, address) as head,
            rank(tmp_path / str(killed), 1, address) as worker,
        ):
            worker.until("headless")
            head.until(READY)
            one, other = (head, worker) if killed == 0 else (worker, head)
            one.process.kill()
            name = "rank 0 on a" if killed == 0 else "rank 1 on b"
            assert f"{name} ended" in other.until("the engine was ended")
            other.until("waiting for")
            state = other.state()
            assert (state["phase"], state["again"], state["lost"]) == ("starting", 1, f"{name} ended")
            assert not descendants(other.process.pid, processes())


def test_a_rank_that_comes_back_finds_the_others_as_they_were(tmp_path: Path) -> None:
    """None of them has ended, so no unit counts a failed start."""
    address = loopback()
    with rank(tmp_path, 0, address) as head:
        for number in ("1", "2"):
            with rank(tmp_path / number, 1, address) as worker:
                worker.until("headless")
                head.until(READY)
                worker.process.kill()
                head.until("the engine was ended")
        head.until("waiting for")
        head.process.terminate()
        assert head.finish() == 0


def test_the_head_waits_for_its_own_address(tmp_path: Path) -> None:
    with rank(tmp_path, 0, "192.0.2.77") as head:
        assert "its own address 192.0.2.77" in head.until("waiting for")
        head.process.terminate()
        assert head.finish() == 0


def test_an_engine_that_ends_takes_all_ranks_with_it(tmp_path: Path) -> None:
    address = loopback()
    dies = ["sh", "-c", "echo headless; read line < /dev/null; exit 3"]
    with rank(tmp_path, 0, address) as head, rank(tmp_path, 1, address, argv=dies) as worker:
        assert worker.finish() == 1
        assert "exit code 3" in worker.lines[-1]
        assert "rank 1 on b ended" in head.until("the engine was ended")


def test_a_flagscale_that_hangs_on_a_node_that_is_gone_is_ended_too(tmp_path: Path) -> None:
    """Its script enters the nodes before it comes back, and a node that is gone may hold it for ever."""
    address = loopback()
    write(tmp_path, {"bin/flagscale": "#!/bin/sh\necho entering\nexec sleep 1000\n"})
    (tmp_path / "bin/flagscale").chmod(0o755)
    peers = {"hosts": ["a", "b"], "address": address, "port": 47811, "token": "t"}
    label = {"label": "tiny", "config": "conf/serve.yaml"}
    start = launched(
        tmp_path / "0", path=str(tmp_path / "bin"), kind="flagscale", flagscale=label, rank=0, peers=peers
    )
    with start as head, rank(tmp_path, 1, address) as worker:
        head.until("entering")
        worker.process.kill()
        assert "rank 1 on b ended" in head.until("the engine was ended")
        head.until("waiting for")
        assert not descendants(head.process.pid, processes())


def test_of_two_engines_that_end_only_the_first_is_to_blame(tmp_path: Path) -> None:
    """The second ended because of the first; only one unit counts a failed start."""
    address, pipe = loopback(), tmp_path / "pipe"
    os.mkfifo(pipe)
    follows = ["sh", "-c", f"echo {READY}; read line < {pipe}; sleep 0.4; exit 4"]
    dies = ["sh", "-c", f"exec 3> {pipe}; echo headless; exit 3"]
    with rank(tmp_path, 0, address, argv=follows) as head, rank(tmp_path, 1, address, argv=dies) as worker:
        assert worker.finish() == 1
        assert "exit code 3" in worker.lines[-1]
        assert "rank 1 on b ended" in head.until("the engine was ended")


def test_a_silent_rank_is_gone(tmp_path: Path) -> None:
    address = loopback()
    with rank(tmp_path, 0, address, gone_s=2) as head, rank(tmp_path, 1, address, gone_s=2) as worker:
        worker.until("headless")
        worker.process.send_signal(signal.SIGSTOP)
        assert "is silent for 2 s" in head.until("the engine was ended")
        worker.process.send_signal(signal.SIGCONT)
        worker.until("the engine was ended")
        worker.until("headless")
        head.until(READY)


def test_a_rank_of_another_configuration_is_refused(tmp_path: Path) -> None:
    address = loopback()
    with rank(tmp_path, 0, address) as head, rank(tmp_path, 1, address, token="other") as stranger:
        assert "another configuration" in head.until("another")
        assert "another configuration" in stranger.until("another")
        with rank(tmp_path, 1, address) as worker:
            worker.until("headless")
        assert "headless" not in stranger.lines


def test_the_workers_wait_for_the_head_to_drain_whoever_is_asked_to_stop(tmp_path: Path) -> None:
    for asked in (0, 1):
        address = loopback()
        folder = tmp_path / str(asked)
        with rank(folder, 0, address) as head, rank(folder, 1, address) as worker:
            worker.until("headless")
            head.until(READY)
            one, other = (worker, head) if asked else (head, worker)
            one.process.terminate()
            assert one.finish() == 0
            assert "is being stopped" in other.until("the engine was ended")
            other.process.terminate()
            assert other.finish() == 0
            assert "bye" in head.lines
            assert "bye" in worker.lines


def test_it_starts_again_as_a_whole(tmp_path: Path) -> None:
    address = loopback()
    with rank(tmp_path / "1", 0, address) as head:
        with rank(tmp_path / "1", 1, address) as worker:
            worker.until("headless")
        head.until("the engine was ended")
    with rank(tmp_path / "2", 1, address) as worker, rank(tmp_path / "2", 0, address) as head:
        head.until(READY)
        worker.until("headless")
