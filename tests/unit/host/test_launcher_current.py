"""A launcher follows the link that it was called by: another configuration, and no new container."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from launching import Running, document, launched, switch, write
from test_launcher import LABEL, READY, alive, flagscale, sleeper, wait_for
from test_launcher_peers import loopback

from flagprov.host import launcher
from flagprov.host.launcher_state import Current

# Says what it is told, and lets go only when it may.
ENGINE = """
import signal, sys
def stop(*_):
    print("bye from {name}")
    {then}
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR1, lambda *_: print("here is {name}"))
print("{name} up")
print("{ready}")
while True:
    signal.pause()
"""
RENEWED = launcher.RENEWED


def engine(name: str, then: str = "pass") -> list[str]:
    return [sys.executable, "-u", "-c", ENGINE.format(name=name, then=then, ready=READY)]


class Host:
    """Two configurations, and the launcher that runs the first one."""

    def __init__(self, folder: Path, running: Running) -> None:
        self.folder, self.link = folder, folder / "current"
        self.running, self.pid = running, running.process.pid

    def switch(self, name: str = "two") -> None:
        switch(self.link, name)

    def runs(self, name: str) -> bool:
        """Whether this process runs that configuration, and says that it knows the link as it is."""
        said = self.running.state()
        now = (said["phase"], said["config"], said["current"], said["launcher_pid"])
        return now == ("running", name, self.link.lstat().st_mtime_ns, self.pid)


@contextmanager
def host(folder: Path, two: dict[str, Any] | None = None, **one: Any) -> Iterator[Host]:
    write(folder / "two", document(**(two or {"argv": engine("two")})))
    with launched(folder, current="one", **{"argv": engine("one"), **one}) as running:
        yield Host(folder, running)


@pytest.mark.parametrize("more", [{}, {"launcher": "another"}], ids=["the same launcher", "another one"])
def test_another_configuration_is_taken_up_by_the_same_process(tmp_path: Path, more: dict[str, Any]) -> None:
    with host(tmp_path, {"argv": engine("two"), **more}) as here:
        here.running.until("one up")
        wait_for(lambda: here.runs("one"))
        here.switch()
        here.running.until("two up")
        wait_for(lambda: here.runs("two"))
        here.running.process.terminate()
        assert here.running.finish() == 0
        said = here.running.state()
    assert (said["phase"], said["reason"], said["config"]) == ("ended", "stopped by request", "two")
    assert here.running.lines == [
        "one up", READY, "bye from one", f"flagprov: the engine was ended: {RENEWED}",
        "two up", READY, "bye from two", "flagprov: stopped by request",
    ]  # fmt: skip


def test_the_same_configuration_put_right_is_taken_up_too(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.running.until("one up")
        write(tmp_path / "one", document(argv=engine("one, put right")))
        here.switch("one")
        here.running.until("one, put right up")
        wait_for(lambda: here.runs("one"))
        here.switch("two")
        here.running.until("two up")
        assert {"bye from one", "bye from one, put right"} <= set(here.running.lines)


@contextmanager
def draining(folder: Path) -> Iterator[tuple[Host, Path]]:
    """On its way to another configuration, with an engine that ends only once the pipe is written to."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    with host(folder, argv=engine("one", then=f"open({str(pipe)!r}).read()")) as here:
        here.running.until("one up")
        here.switch()
        here.running.until("bye from one")
        yield here, pipe


def test_while_it_drains_it_says_why(tmp_path: Path) -> None:
    with draining(tmp_path) as (here, pipe):
        said = here.running.state()
        assert (said["phase"], said["reason"], said["config"]) == ("stopping", RENEWED, "one")
        assert said["current"] != here.link.lstat().st_mtime_ns
        pipe.write_text("")
        here.running.until("two up")


def test_a_stop_while_it_drains_starts_nothing(tmp_path: Path) -> None:
    with draining(tmp_path) as (here, pipe):
        here.running.process.terminate()
        pipe.write_text("")
        assert here.running.finish() == 0
        assert here.running.lines[-1] == "flagprov: stopped by request"
        assert "two up" not in here.running.lines
        said = here.running.state()
    assert (said["phase"], said["config"]) == ("ended", "one")


def test_a_stop_while_one_becomes_the_other_is_not_lost(tmp_path: Path) -> None:
    """Between two programs nobody has a handler."""
    with host(tmp_path, {"argv": engine("two"), "launcher": "another"}) as here:
        program = tmp_path / "two" / "launcher.py"
        asked = "import os; os.kill(os.getpid(), 15)\n"
        program.write_text(program.read_text().replace("import os\n", asked, 1))
        here.running.until("one up")
        here.switch()
        assert here.running.finish() == 0
        assert here.running.lines[-1] == "flagprov: stopped by request"
        assert "two up" not in here.running.lines
        assert here.running.state()["config"] == "two"


def turned(running: Running, name: str) -> None:
    """The launcher has looked around at least once: of two lines each comes through in a turn of its own."""
    for _ in range(2):
        os.kill(running.state()["engine_pid"], signal.SIGUSR1)
        running.until(f"here is {name}")


def test_a_link_that_is_gone_changes_nothing_until_it_is_back(tmp_path: Path) -> None:
    with host(tmp_path) as here:
        here.running.until("one up")
        wait_for(lambda: here.runs("one"))
        here.link.unlink()
        turned(here.running, "one")
        assert here.running.state()["phase"] == "running"
        here.switch()
        here.running.until("two up")
        assert here.running.lines.count("bye from one") == 1


def test_a_directory_that_is_no_link_is_never_new(tmp_path: Path) -> None:
    with launched(tmp_path, argv=engine("one")) as running:
        running.until("one up")
        wait_for(lambda: running.state()["phase"] == "running")
        os.utime(tmp_path / "conf", (0, 0))
        turned(running, "one")
        said = running.state()
        assert (said["phase"], said["config"], said["current"]) == ("running", "conf", None)


def test_only_a_link_is_renewed(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    switch(tmp_path / "current", "one")
    folder, link = Current(str(tmp_path / "one")), Current(str(tmp_path / "current"))
    assert folder.directory == link.directory == str(tmp_path / "one")
    for path in (tmp_path / "one", tmp_path / "current"):
        os.utime(path, (0, 0), follow_symlinks=False)
    assert (folder.renewed(), link.renewed()) == (False, True)
    (tmp_path / "current").unlink()
    (tmp_path / "one").rmdir()
    assert (folder.renewed(), link.renewed()) == (False, False)


def test_while_it_is_held_it_follows_and_is_held(tmp_path: Path) -> None:
    held = tmp_path / "run-host" / "hold"
    held.parent.mkdir()
    held.touch()
    with host(tmp_path) as here:
        assert f"{tmp_path}/one/start.sh" in here.running.until("held by hand")
        here.switch()
        assert f"{tmp_path}/two/start.sh" in here.running.until("held by hand")
        held.unlink()
        here.running.until("two up")
    assert "one up" not in here.running.lines


@pytest.mark.parametrize("kind", ["command", "flagscale"])
def test_while_it_still_starts_it_follows(tmp_path: Path, kind: str) -> None:
    loads = "echo loading; exec sleep 1000"
    one: dict[str, Any] = {"argv": ["sh", "-c", loads]}
    if kind == "flagscale":
        one = {"kind": kind, "flagscale": LABEL, "path": flagscale(tmp_path, loads)}
    with host(tmp_path, **one) as here:
        here.running.until("loading")
        loading = here.running.state()
        here.switch()
        here.running.until("two up")
        wait_for(lambda: here.runs("two"))
    assert loading["phase"] == "starting"


@pytest.mark.parametrize(
    ("text", "message"), [("{", "launch.json cannot be read"), ('{"schema_version": 2}', "schema version")]
)
def test_what_is_unusable_ends_it(tmp_path: Path, text: str, message: str) -> None:
    with host(tmp_path) as here:
        here.running.until("one up")
        (tmp_path / "two" / "launch.json").write_text(text)
        here.switch()
        assert here.running.finish() == 2
    assert "bye from one" in here.running.lines
    assert message in here.running.lines[-1]


def test_an_engine_that_ends_by_itself_ends_it_still(tmp_path: Path) -> None:
    with host(tmp_path, argv=["sh", "-c", "exit 3"]) as here:
        assert here.running.finish() == 1
        said = here.running.state()
    assert "exit code 3" in said["reason"]
    assert (said["config"], said["current"]) == ("one", here.link.lstat().st_mtime_ns)


def test_what_outlives_an_engine_is_ended_before_the_next_one_starts(tmp_path: Path) -> None:
    with host(tmp_path, argv=sleeper("exec sleep 1000")) as here:
        orphan = int(here.running.until("left").split()[1])
        assert alive(orphan)
        looks = f"kill -0 {orphan} 2>/dev/null && echo still there || echo all gone; exec sleep 1000"
        write(tmp_path / "two", document(argv=["sh", "-c", looks]))
        here.switch()
        here.running.until("all gone")
    assert "still there" not in here.running.lines


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("another", [True, False])
def test_shared_memory_that_is_its_own_is_emptied_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, another: bool
) -> None:
    """What killed workers left there would be the next engine's loss."""
    did: list[Any] = []
    write(tmp_path / "one", document(own_shm=own, launcher="a"))
    write(tmp_path / "two", document(launcher="b" if another else "a"))
    switch(tmp_path / "current", "one")
    os.utime(tmp_path / "current", (0, 0), follow_symlinks=False)
    (tmp_path / "run").mkdir()
    ending = launcher.Launcher(Current(str(tmp_path / "current")), str(tmp_path / "run"))
    monkeypatch.setattr(ending.node, "ours", list)
    monkeypatch.setattr(launcher, "empty_shm", lambda: did.append("emptied"))
    monkeypatch.setattr(os, "execvp", lambda file, argv: did.append(argv))
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    switch(tmp_path / "current", "two")
    ending.gone(RENEWED)
    assert did == ["emptied"] * own + [["python3", f"{tmp_path}/current/launcher.py"]] * another


@pytest.mark.parametrize("first", [0, 1], ids=["the head first", "the worker first"])
def test_ranks_follow_one_after_another_and_meet_anew(tmp_path: Path, first: int) -> None:
    address = loopback()

    def rank(number: int, name: str, token: str) -> dict[str, Any]:
        peers = {"hosts": ["a", "b"], "address": address, "port": 47811, "token": token}
        return {"argv": engine(name), "rank": number, "peers": peers, "stop_grace_s": 5}

    def node(number: int) -> AbstractContextManager[Host]:
        return host(tmp_path / str(number), rank(number, "new", "new"), **rank(number, "old", "old"))

    with node(0) as head, node(1) as worker:
        for each in (head, worker):
            each.running.until("old up")
        one, other = (worker, head) if first else (head, worker)
        one.switch()
        assert "is being stopped" in other.running.until("the engine was ended")
        assert "bye from old" in other.running.lines
        other.running.until("another configuration")  # the two do not belong together
        assert other.running.state()["config"] == "one"
        other.switch()
        for each in (head, worker):
            each.running.until("new up")
            wait_for(partial(each.runs, "two"))
            said = each.running.state()
            assert (said["again"], said["lost"]) == (0, "")
            assert each.running.lines.count("old up") == each.running.lines.count("bye from old") == 1
