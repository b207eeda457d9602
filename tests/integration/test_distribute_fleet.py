"""A controller, and hosts with networks of their own: killed, cut off, late, two at once."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flagprov.host.transfer import manifest
from tests.integration.sshd import SSHD

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "distribution"
SIZE = 8 << 20
MBIT = 40  # two seconds, so that something can happen half-way
IMPATIENT = "import flagprov.distribute.watch as watch; watch.SILENT_S = 4.0"
TARGET = "/srv/flagprov-bench/model"

_spec = importlib.util.spec_from_file_location("distribution_network", FOLDER / "network.py")
assert _spec and _spec.loader
network = importlib.util.module_from_spec(_spec)
sys.modules["distribution_network"] = network
_spec.loader.exec_module(network)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or SSHD is None or not shutil.which("tc"), reason="needs root, sshd and iproute2"
)


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("fleet") / "hosts"
    with network.Fleet(3, folder, mbit=MBIT, prefix="fpt", net="10.231.8") as made:
        yield made


class Controller:
    """benchmarks/distribution/ours.py as a process of its own; `first` is code that it runs before."""

    def __init__(self, argv: list[str], first: str) -> None:
        run = f"import runpy; runpy.run_path({str(FOLDER / 'ours.py')!r}, run_name='__main__')"
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{first}\n{run}", "--events", "/dev/fd/1", *argv],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.said: list[Any] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._changed:
                    self.said.append(json.loads(line))
                    self._changed.notify_all()

    def until(self, test: Callable[[Any], bool], timeout: float = 40.0) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(test, self.said)), timeout), self.said[-4:]
            return next(filter(test, self.said))

    def arrived(self, host: str, count: int = SIZE // 4) -> None:
        self.until(lambda s: isinstance(s, list) and s[1] == host and s[4].get("bytes", 0) >= count)

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = self.until(lambda said: isinstance(said, dict))
        assert self.process.wait(20) == 0
        return found

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)


class Trial:
    def __init__(self, links: Any, folder: Path) -> None:
        self.links, self.folder = links, folder
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "config.json").write_text("{}")
        (self.source / "model.bin").write_bytes(os.urandom(SIZE))
        self.controllers: list[Controller] = []
        self.names: list[str] = [links.address(index) for index in range(links.count)]

    def deploy(self, *hosts: int, first: str = "", site: str = "site", there: str = "") -> Controller:
        argv = ["--source", str(self.source), "--target", TARGET, "--site", str(self.folder / site)]
        argv += ["--key", str(self.links.key), "--known-hosts", str(self.links.folder / "known_hosts")]
        argv += [*(("--there", there) if there else ()), *(self.names[index] for index in hosts)]
        (self.folder / site).mkdir(exist_ok=True)
        self.controllers.append(Controller(argv, first))
        return self.controllers[-1]

    def whole(self, *hosts: int) -> bool:
        """Byte by byte, and by the manifest; no key is left on the controller."""
        places = [self.links.data(index) / "model" for index in hosts]
        return all(
            (place / name).read_bytes() == (self.source / name).read_bytes()
            and not manifest.deep_faults(str(place), [])
            for place in places
            for name in ("config.json", "model.bin")
        )

    def keys(self) -> list[Path]:
        return [path for path in self.folder.rglob("transfers/*.json") if path.is_file()]

    def job(self, index: int) -> int:
        """The process of a host's node."""
        (unit,) = (self.links.folder / self.links.name(index) / "state" / "units").glob("*.service")
        return int(unit.read_text())

    def end(self) -> None:
        for controller in self.controllers:
            if controller.process.poll() is None:
                controller.kill()
        self.links.end_jobs()
        self.links.clean()


@pytest.fixture
def trial(links: Any, tmp_path: Path) -> Iterator[Trial]:
    made = Trial(links, tmp_path)
    yield made
    made.end()


def test_a_killed_controller_takes_it_up_again(trial: Trial) -> None:
    before = trial.links.uplink_bytes()
    first = trial.deploy(0, 1, 2)
    first.arrived(trial.names[2])
    first.kill()
    assert trial.deploy(0, 1, 2).answer()["failed"] == {}
    assert trial.whole(0, 1, 2) and trial.keys() == []
    assert trial.links.uplink_bytes() - before < 1.6 * SIZE


def test_a_cable_that_is_out_for_a_moment(trial: Trial) -> None:
    controller = trial.deploy(0, 1, 2)
    controller.arrived(trial.names[2])
    trial.links.link(1, "down")
    around = (trial.names[0], "the controller")
    controller.until(lambda s: isinstance(s, list) and s[1] == trial.names[2] and s[4].get("from") in around)
    trial.links.link(1, "up")
    assert controller.answer()["failed"] == {}
    assert trial.whole(0, 1, 2)


@pytest.mark.thorough
def test_a_cable_that_stays_out_leaves_its_host_behind(trial: Trial) -> None:
    controller = trial.deploy(0, 1, 2, first=IMPATIENT)
    controller.arrived(trial.names[1])
    trial.links.link(1, "down")
    try:
        answer = controller.answer()
    finally:
        trial.links.link(1, "up")
    assert answer["failed"] == {trial.names[1]: "it lacks files and has said nothing for 4 s"}
    assert trial.whole(0, 2)
    whole = [said for said in controller.said if isinstance(said, list) and not said[1]]
    assert whole[-1][2] == "done" and "on 2 hosts" in whole[-1][3]  # nobody waits for its bytes
    assert trial.deploy(0, 1, 2).answer()["failed"] == {}
    assert trial.whole(0, 1, 2) and trial.keys() == []


@pytest.mark.thorough
def test_a_killed_job_is_said_and_taken_up(trial: Trial) -> None:
    controller = trial.deploy(0, 1, 2)
    controller.arrived(trial.names[1])
    os.kill(trial.job(1), signal.SIGKILL)
    assert list(controller.answer()["failed"]) == [trial.names[1]]
    assert "the job was killed" in controller.answer()["failed"][trial.names[1]]
    assert trial.whole(0, 2)
    again = trial.deploy(1).answer()
    assert again["failed"] == {} and again["results"][trial.names[1]]["bytes"] < SIZE
    assert trial.whole(1)


@pytest.mark.thorough
def test_a_killed_job_of_the_source_is_started_again(trial: Trial) -> None:
    trial.links.clean()
    origin = trial.links.data(0) / "origin"
    shutil.copytree(trial.source, origin)
    trial.source = origin
    controller = trial.deploy(1, 2, there=f"{trial.names[0]}:/srv/flagprov-bench/origin")
    controller.arrived(trial.names[2])
    os.kill(trial.job(0), signal.SIGKILL)
    assert controller.answer()["failed"] == {}
    assert trial.whole(1, 2) and trial.keys() == []


@pytest.mark.parametrize("site", ["site", "another"])
def test_two_controllers_at_once(trial: Trial, site: str) -> None:
    """The second one's host comes late; from the same site, it joins the chain."""
    first = trial.deploy(0, 1)
    first.arrived(trial.names[1])
    second = trial.deploy(2, site=site)
    assert first.answer()["failed"] == second.answer()["failed"] == {}
    assert trial.whole(0, 1, 2) and trial.keys() == []


@pytest.mark.thorough
def test_a_first_host_that_is_dead_from_the_start(trial: Trial) -> None:
    trial.links.kill(0)
    trial.links.link(0, "up")
    try:
        answer = trial.deploy(0, 1, 2).answer()
    finally:
        trial.links.revive(0)
    assert list(answer["failed"]) == [trial.names[0]]
    assert trial.whole(1, 2)
