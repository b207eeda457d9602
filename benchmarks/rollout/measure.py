"""The same work by flagprov and its peers, on the same hosts; writes benchmarks/out/rollout.json.

    measure.py [--hosts N] [--repeat R] [--slow R] [--tools floor,flagprov,...] [--work first,noop,...]

Wall time is that of the whole command, from the shell's point of view, with cold connections. Ansible, as it
comes and tuned, and Mitogen run --slow times, the others --repeat times; figures are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OUT = ROOT / "benchmarks" / "out"
SCRATCH = OUT / "rollout"
SITE = ROOT / "inventory" / ".flagprov"
INVENTORY = ROOT / "inventory" / "lab.ini"
RELEASE = HERE / "release.yaml"
TOOLS = ("floor", "flagprov", "pyinfra", "mitogen", "ansible-tuned", "ansible-default")
WORKS = ("noop", "change", "status", "first")
FLAGPROV = [sys.executable, "-m", "flagprov"]


@dataclass(frozen=True)
class Figures:
    wall_s: float
    cpu_s: float
    rss_mib: float


class Bench:
    def __init__(self, hosts: int) -> None:
        self.hosts = hosts
        self.state = "a"  # or b: the value that is deployed now

    def work_file(self, state: str) -> Path:
        return SCRATCH / f"work-{state}.json"

    def setting(self, state: str) -> list[str]:
        return ["--set", f"serve.max_num_seqs={4 if state == 'a' else 8}"]

    def prepare(self) -> None:
        """The lab, served by flagprov once, and the work of both states as data."""
        SCRATCH.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(SCRATCH / "controls", ignore_errors=True)
        (SCRATCH / "controls").mkdir()
        run([*FLAGPROV, "lab", "up", "--hosts", str(self.hosts)])
        deploy = [*FLAGPROV, "rollout", str(INVENTORY), str(RELEASE), "--yes", "--quiet", "--all-at-once"]
        run([*deploy, *self.setting("a")])
        for state in "ab":
            with self.work_file(state).open("w") as stream:
                program = [sys.executable, str(HERE / "desired.py"), str(INVENTORY), str(RELEASE)]
                subprocess.run([*program, *self.setting(state)], check=True, stdout=stream, cwd=ROOT)
            hosts = json.loads(self.work_file(state).read_text())
            names = {
                host["name"]: {
                    "ansible_host": host["address"], "ansible_port": host["port"], "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(SITE / "lab_key"),
                    "ansible_ssh_extra_args": f"-o UserKnownHostsFile={SITE / 'known_hosts'}",
                    "work": host,
                }
                for host in hosts
            }  # fmt: skip
            (SCRATCH / f"inventory-{state}.json").write_text(json.dumps({"all": {"hosts": names}}))

    def command(self, tool: str, work: str, state: str) -> tuple[list[str], dict[str, str]]:
        environment = {"WORK": str(self.work_file(state)), "WHAT": work, "KEY": str(SITE / "lab_key"),
                       "KNOWN_HOSTS": str(SITE / "known_hosts"), "ANSIBLE_HOME": str(SCRATCH / "ansible"),
                       "ANSIBLE_SSH_CONTROL_PATH_DIR": str(SCRATCH / "controls")}  # fmt: skip
        peers = OUT / "peers"
        if tool == "floor":
            what = {"first": "converge", "noop": "converge", "change": "converge"}.get(work, work)
            return [sys.executable, str(HERE / "floor.py"), environment["WORK"], environment["KEY"],
                    environment["KNOWN_HOSTS"], what], environment  # fmt: skip
        if tool == "flagprov":
            if work == "status":
                return [*FLAGPROV, "status", str(INVENTORY), "rollout-benchmark", "--quiet"], environment
            carefree = ["--batch", "100%", "--max-unavailable", "100%", "--no-canary", "--soak", "0"]
            verb = ["rollout", *carefree, "--allow-downtime"] if work == "change" else ["deploy"]
            where = [str(INVENTORY), str(RELEASE), "--yes", "--quiet"]
            return [*FLAGPROV, verb[0], *where, *verb[1:], *self.setting(state)], environment
        if tool == "pyinfra":
            files = [str(HERE / "pyinfra" / name) for name in ("inventory.py", "deploy.py")]
            return [str(peers / "pyinfra" / "bin" / "pyinfra"), *files, "-y"], environment
        config = {"mitogen": "mitogen", "ansible-tuned": "tuned", "ansible-default": "default"}[tool]
        environment["ANSIBLE_CONFIG"] = str(HERE / "ansible" / f"{config}.cfg")
        extra: list[str] = []
        if config != "default":
            environment["ANSIBLE_FORKS"] = str(self.hosts)
            extra = ["-e", "facts=false"]
        if config == "mitogen":
            (plugins,) = (peers / "ansible").glob(
                "lib/python3*/site-packages/ansible_mitogen/plugins/strategy"
            )
            environment["ANSIBLE_STRATEGY_PLUGINS"] = str(plugins)
        playbook = HERE / "ansible" / ("status.yml" if work == "status" else "site.yml")
        program = peers / "ansible" / "bin" / "ansible-playbook"
        inventory = SCRATCH / f"inventory-{state}.json"
        return [str(program), "-i", str(inventory), str(playbook), *extra], environment

    def measured(self, tool: str, work: str) -> Figures:
        """One run of one work; what comes before it is not measured."""
        if work == "first":
            self.reset()
        elif work == "change":
            self.state = "b" if self.state == "a" else "a"
        command, environment = self.command(tool, work, self.state)
        self.cool()
        return run(command, environment)

    def reset(self) -> None:
        command, environment = self.command("floor", "reset", self.state)
        run(command, environment)

    def settle(self, tool: str) -> None:
        """Everything as this tool would have it."""
        command, environment = self.command(tool, "noop", self.state)
        run(command, environment)

    def cool(self) -> None:
        """No connection of Ansible's outlives a measurement."""
        for path in (SCRATCH / "controls").iterdir():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "x"], check=False, capture_output=True
            )


def run(command: list[str], environment: dict[str, str] | None = None) -> Figures:
    """Raises with the command's last words where it fails."""
    log = SCRATCH / "log"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=ROOT,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        )  # fmt: skip
        with memory_of(process.pid) as peak:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{log.read_text()[-3000:]}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, peak[0])


@contextlib.contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """Peak of the resident memory of a process and its descendants in MiB, looked at twice a second."""
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5 if peak[0] else 0.15):
            peak[0] = max(peak[0], sum(map(resident, descendants(pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def descendants(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from descendants(int(child))


def resident(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=int(os.environ.get("N", "32")))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--slow", type=int, default=1, help="repetitions of Ansible and Mitogen")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--work", default=",".join(WORKS))
    given = parser.parse_args()
    bench = Bench(given.hosts)
    bench.prepare()
    rows: list[dict[str, Any]] = []
    for tool in given.tools.split(","):
        bench.settle(tool)
        for work in given.work.split(","):
            repeat = given.repeat if tool in ("floor", "flagprov", "pyinfra") else given.slow
            found = [bench.measured(tool, work) for _ in range(1 if work == "first" else repeat)]
            rows.append(
                {
                    "tool": tool,
                    "work": work,
                    "n": given.hosts,
                    "wall_s_median": round(statistics.median(f.wall_s for f in found), 3),
                    "controller_cpu_s": round(statistics.median(f.cpu_s for f in found), 3),
                    "controller_rss_mib": round(max(f.rss_mib for f in found), 1),
                    "runs": len(found),
                }
            )
            print(json.dumps(rows[-1]), flush=True)  # noqa: T201
            (OUT / "rollout.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))  # noqa: T201


def table(rows: list[dict[str, Any]]) -> str:
    """Wall time of each tool and work, and how many times the floor that is."""
    floor = {row["work"]: row["wall_s_median"] for row in rows if row["tool"] == "floor"}
    lines = [f"{'work':8} {'tool':16} {'hosts':>5} {'wall s':>8} {'x floor':>8} {'CPU s':>8} {'MiB':>7}"]
    for row in sorted(rows, key=lambda row: (row["work"], row["wall_s_median"])):
        ratio = f"{row['wall_s_median'] / floor[row['work']]:8.2f}" if row["work"] in floor else f"{'-':>8}"
        lines.append(
            f"{row['work']:8} {row['tool']:16} {row['n']:5} {row['wall_s_median']:8.2f} {ratio}"
            f" {row['controller_cpu_s']:8.2f} {row['controller_rss_mib']:7.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
