"""The same work by flagprov and its peers, on the same hosts; writes benchmarks/out/rollout.json.

    measure.py [--hosts N] [--repeat R] [--slow R] [--tools floor,flagprov,...] [--work first,noop,...]
               [--simulated N]

Wall time is that of the whole command, from the shell's point of view, with cold connections. Ansible, as it
comes and tuned, and Mitogen run --slow times, the others --repeat times; figures are medians. Four works are
measured on 1, 4, 16 and 32 hosts of the lab (no more than --hosts): how a tool grows. noop-40ms is the first
host behind a round trip of 40 ms, status-1000 a look at simulated hosts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from large import looks
from places import ROUND_TRIP_MS, Place, far_away, lab
from process import FLAGPROV, OUT, ROOT, SCRATCH, Figures, row, run
from table import table

HERE = Path(__file__).parent
RELEASE = HERE / "release.yaml"
TOOLS = ("floor", "flagprov", "pyinfra", "mitogen", "ansible-tuned", "ansible-default")
QUICK = ("floor", "flagprov", "pyinfra")
LAB_WORKS = ("noop", "change", "status", "first")
FAR = f"noop-{ROUND_TRIP_MS}ms"
SIZES = (1, 4, 16, 32)


class Bench:
    """One place and the value that is deployed there now."""

    def __init__(self, place: Place, state: str = "a") -> None:
        self.place = place
        self.state = state  # or b

    def prepare(self) -> None:
        """The work of both states as data, for those who do not know flagprov."""
        for state in "ab":
            program = [sys.executable, str(HERE / "desired.py"), str(self.place.inventory), str(RELEASE)]
            answer = subprocess.run(
                [*program, *setting(state)], check=True, stdout=subprocess.PIPE, cwd=ROOT
            ).stdout
            hosts = [host for host in json.loads(answer) if host["name"] in self.place.hosts]
            self.place.write(state, hosts)

    def command(self, tool: str, work: str) -> tuple[list[str], dict[str, str]]:
        place = self.place
        environment = {"WORK": str(place.work_file(self.state)), "WHAT": work, "KEY": str(place.key),
                       "KNOWN_HOSTS": str(place.known_hosts), "ANSIBLE_HOME": str(SCRATCH / "ansible"),
                       "ANSIBLE_SSH_CONTROL_PATH_DIR": str(SCRATCH / "controls")}  # fmt: skip
        if tool == "floor":
            what = work if work in ("status", "reset", "calm") else "converge"
            return [sys.executable, str(HERE / "floor.py"), environment["WORK"], environment["KEY"],
                    environment["KNOWN_HOSTS"], what], environment  # fmt: skip
        if tool == "flagprov":
            return [*FLAGPROV, *self.verb(work), "--quiet"], environment
        peers = OUT / "peers"
        if tool == "pyinfra":
            files = [str(HERE / "pyinfra" / name) for name in ("inventory.py", "deploy.py")]
            return [str(peers / "pyinfra" / "bin" / "pyinfra"), *files, "-y"], environment
        config = {"mitogen": "mitogen", "ansible-tuned": "tuned", "ansible-default": "default"}[tool]
        environment["ANSIBLE_CONFIG"] = str(HERE / "ansible" / f"{config}.cfg")
        extra: list[str] = []
        if config != "default":
            environment["ANSIBLE_FORKS"] = str(len(place.hosts))
            extra = ["-e", "facts=false"]
        if config == "mitogen":
            (plugins,) = (peers / "ansible").glob(
                "lib/python3*/site-packages/ansible_mitogen/plugins/strategy"
            )
            environment["ANSIBLE_STRATEGY_PLUGINS"] = str(plugins)
        playbook = HERE / "ansible" / ("status.yml" if work == "status" else "site.yml")
        program = peers / "ansible" / "bin" / "ansible-playbook"
        return [str(program), "-i", str(place.ansible(self.state)), str(playbook), *extra], environment

    def verb(self, work: str) -> list[str]:
        inventory = str(self.place.inventory)
        if work == "status":
            return ["status", inventory, "rollout-benchmark"]
        asked = [inventory, str(RELEASE), "--yes", *setting(self.state)]
        if work != "change":
            return ["deploy", *asked]
        carefree = ["--batch", "100%", "--max-unavailable", "100%", "--no-canary", "--soak", "0"]
        one_answer = ["--completions", "1", "--concurrent", "1"]  # as the others ask for
        return ["rollout", *asked, *carefree, *one_answer, "--allow-downtime"]

    def measured(self, tool: str, work: str) -> Figures:
        """One run of one work; what comes before it is not measured."""
        if work == "first":
            run(*self.command("floor", "reset"))
        elif work == "change":
            run(*self.command("floor", "calm"))
            self.state = "b" if self.state == "a" else "a"
        cool()
        return run(*self.command(tool, work))


def setting(state: str) -> list[str]:
    return ["--set", f"serve.max_num_seqs={4 if state == 'a' else 8}"]


def cool() -> None:
    """No connection of Ansible's outlives a measurement."""
    for path in (SCRATCH / "controls").iterdir():
        subprocess.run(
            ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "x"], check=False, capture_output=True
        )


def in_the_lab(given: argparse.Namespace, works: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Hosts that serve, in growing numbers, and one of them far away."""
    shutil.rmtree(SCRATCH / "controls", ignore_errors=True)
    (SCRATCH / "controls").mkdir(parents=True)
    run([*FLAGPROV, "lab", "up", "--hosts", str(given.hosts)])
    whole = lab(given.hosts)
    deploy = [*FLAGPROV, "rollout", str(whole.inventory), str(RELEASE), "--yes", "--quiet", "--all-at-once"]
    run([*deploy, *setting("a")])
    for size in [*(n for n in SIZES if n < given.hosts), given.hosts]:
        bench = Bench(lab(size))
        run(*bench.command("flagprov", "noop"))  # this site knows the image from now on
        bench.prepare()
        for tool in given.tools:
            run(*bench.command(tool, "noop"))  # everything as this tool would have it
            for work in (each for each in works if each in LAB_WORKS):
                times = 1 if work == "first" else given.repeat if tool in QUICK else given.slow
                yield row(tool, work, size, [bench.measured(tool, work) for _ in range(times)])
        state = bench.state
    if FAR not in works:
        return
    with far_away(lab(1)) as place:
        bench = Bench(place, state)
        run(*bench.command("flagprov", "noop"))
        bench.prepare()
        for tool in given.tools:
            run(*bench.command(tool, "noop"))
            times = given.repeat if tool in QUICK else given.slow
            yield row(tool, FAR, 1, [bench.measured(tool, "noop") for _ in range(times)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=int(os.environ.get("N", "32")))
    parser.add_argument(
        "--simulated", type=int, help="hosts of the look at many: 1000, or 100 for few --hosts"
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--slow", type=int, default=1, help="repetitions of Ansible and Mitogen")
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(TOOLS))
    parser.add_argument("--work", default="")
    given = parser.parse_args()
    given.simulated = given.simulated or (1000 if given.hosts >= SIZES[-1] else 100)
    return given


def main() -> None:
    given = arguments()
    large = f"status-{given.simulated}"
    works = given.work.split(",") if given.work else [*LAB_WORKS, FAR, large]
    rows: list[dict[str, Any]] = []

    def keep(found: Iterator[dict[str, Any]]) -> None:
        for each in found:
            rows.append(each)
            print(json.dumps(each), flush=True)  # noqa: T201
            (OUT / "rollout.json").write_text(json.dumps(rows, indent=1) + "\n")

    if large in works:
        keep(looks(given.simulated, min(given.repeat, 3)))
    if {FAR, *LAB_WORKS} & set(works):
        keep(in_the_lab(given, works))
    print(table(rows))  # noqa: T201


if __name__ == "__main__":
    main()
