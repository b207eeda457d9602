"""flagprov's fan-out beside scp, rsync and Ansible's copy; writes benchmarks/out/distribution.json.

Of flagprov's runs the median counts, from the start of its process until the last host has everything.

measure.py [--size MB] [--peer-size MB] [--hosts 8,16] [--only file,again,model-dir,trouble,scp,...]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from network import DATA, Fleet

ROOT = Path(__file__).parents[2]
OUT = ROOT / "benchmarks" / "out"
MEMORY = Path("/dev/shm/flagprov-bench")
TARGET = f"{DATA}/model"
Row = dict[str, Any]


def make_file(folder: Path, size: int) -> Path:
    folder.mkdir(parents=True)
    with (folder / "model.bin").open("wb") as stream:
        for _ in range(size // 1_000_000):
            stream.write(os.urandom(1_000_000))
    return folder


def make_model(folder: Path, size: int) -> Path:
    """300 small and 4 large files."""
    (folder / "parts").mkdir(parents=True)
    small = size // 100 // 300
    for number in range(300):
        (folder / "parts" / f"{number:03}.json").write_bytes(os.urandom(small))
    for number in range(4):
        with (folder / f"model-{number}.safetensors").open("wb") as stream:
            for _ in range((size - 300 * small) // 4 // 1_000_000):
                stream.write(os.urandom(1_000_000))
    return folder


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


def digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."):
        sha.update(f"{path.relative_to(folder)}\n".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


class Bench:
    def __init__(self, fleet: Fleet, source: Path, python: str) -> None:
        self.fleet, self.source, self.python = fleet, source, python
        self.size = size_of(source)
        self.limit = self.size * 8 / (fleet.mbit * 1e6)
        self.sum = digest(source)
        self.load = round(os.getloadavg()[0], 1)

    def verified(self, hosts: list[int]) -> None:
        for index in hosts:
            found = digest(self.fleet.data(index) / "model")
            if found != self.sum:
                raise SystemExit(f"{self.fleet.name(index)}: what arrived differs")

    def ours(self, hosts: list[int], events: Path | None = None, *more: str) -> subprocess.Popen[str]:
        argv = [self.python, str(Path(__file__).with_name("ours.py")), "--source", str(self.source)]
        argv += ["--target", TARGET, "--site", str(self.fleet.folder / "site"), "--key", str(self.fleet.key)]
        argv += ["--known-hosts", str(self.fleet.folder / "known_hosts")]
        argv += ["--events", str(events)] if events else []
        argv += [*more, *(self.fleet.address(index) for index in hosts)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)

    def run_ours(self, hosts: list[int]) -> Row:
        """A deploy has surveyed its hosts before: the host program is there."""
        self.ours(hosts, None, "--survey").communicate()
        before = self.fleet.uplink_bytes()
        out, _ = self.ours(hosts, self.fleet.folder / "events.jsonl").communicate()
        answer = json.loads(out)
        if answer["failed"]:
            raise SystemExit(f"flagprov: {answer['failed']}")
        uplink = (self.fleet.uplink_bytes() - before) / self.size
        return {
            "seconds": answer["last_host"], "uplink": round(uplink, 3),
            "controller_cpu_s": answer["cpu_s"], "controller_rss_mib": answer["rss_mib"],
        }  # fmt: skip

    def run_peer(self, tool: str, hosts: list[int]) -> Row:
        begun = time.monotonic()
        options = self.fleet.ssh_options
        addresses = [self.fleet.address(index) for index in hosts]
        if tool == "ansible":
            inventory = self.fleet.folder / "hosts.ini"
            inventory.write_text(
                "".join(
                    f"{a} ansible_user=root ansible_python_interpreter=/usr/bin/python3\n" for a in addresses
                )
            )
            environment = os.environ | {
                "ANSIBLE_SSH_ARGS": " ".join(options), "ANSIBLE_FORKS": str(len(hosts)),
                "ANSIBLE_PIPELINING": "1", "ANSIBLE_HOME": str(self.fleet.folder / "ansible"),
            }  # fmt: skip
            argv = [str(Path(self.python).with_name("ansible")), "-i", str(inventory), "all", "-m", "copy"]
            argv += ["-a", f"src={self.source}/ dest={TARGET}/"]
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"ansible: {done.stdout[-500:]}")
        else:
            children = [subprocess.Popen(self._copy(tool, options, address)) for address in addresses]
            if any(child.wait() for child in children):
                raise SystemExit(f"{tool} failed")
        return {"seconds": time.monotonic() - begun}

    def _copy(self, tool: str, options: list[str], address: str) -> list[str]:
        if tool == "rsync":
            return [
                "rsync",
                "-rtW",
                "-e",
                " ".join(["ssh", *options]),
                f"{self.source}/",
                f"root@{address}:{TARGET}/",
            ]
        return ["scp", "-q", "-r", *options, str(self.source), f"root@{address}:{TARGET}"]

    def row(self, tool: str, work: str, hosts: list[int], found: Row) -> Row:
        seconds = round(found.pop("seconds"), 2)
        row = {"tool": tool, "work": work, "hosts": len(hosts), "seconds": seconds}
        row |= {"over_limit": round(seconds / self.limit, 3), "bytes": self.size, **found}
        row["load_before"] = self.load
        sys.stderr.write(json.dumps(row) + "\n")
        return row

    def trouble(self, hosts: list[int]) -> list[Row]:
        """Half-way one host dies without a word and another one joins."""
        *first, late = hosts
        victim = first[len(first) // 2]
        events = self.fleet.folder / "events.jsonl"
        self.ours(hosts, None, "--survey").communicate()
        begun = time.monotonic()
        child = self.ours(first, events)
        answer: Row = {}
        reader = threading.Thread(target=lambda: answer.update(json.loads(child.communicate()[0] or "{}")))
        reader.start()
        half = self.limit / 2
        while time.monotonic() - begun < half + 2:
            time.sleep(0.05)
        self.fleet.kill(victim)
        joined = time.monotonic()
        self.ours([late]).communicate()
        late_seconds = time.monotonic() - joined
        survivors = [index for index in first if index != victim]
        while True:  # the first controller still waits for the dead host's SSH
            done = _done(events)
            if all(self.fleet.address(index) in done for index in survivors):
                break
            if not reader.is_alive() or time.monotonic() - begun > 6 * self.limit + 60:
                raise SystemExit(f"some did not finish: {answer.get('failed')}")
            time.sleep(0.1)
        seconds = max(done[self.fleet.address(index)] for index in survivors)
        child.kill()
        reader.join()
        self.verified([*survivors, late])
        rows = [
            self.row("flagprov", "file, one killed", survivors, {"seconds": seconds}),
            self.row("flagprov", "file, joined late", [late], {"seconds": late_seconds}),
        ]
        self.fleet.revive(victim)
        return rows


def measured(bench: Bench, hosts: list[int], runs: int) -> Iterator[Row]:
    """The hosts have what the last run brought."""
    for number in range(runs):
        if number:
            bench.fleet.end_jobs()
            bench.fleet.clean()
        yield bench.run_ours(hosts)
        bench.verified(hosts)


def median(rows: Iterable[Row]) -> Row:
    ordered = sorted(rows, key=lambda row: float(row["seconds"]))
    middle = ordered[len(ordered) // 2]
    return {**middle, "runs": [round(row["seconds"], 2) for row in ordered]}


def _done(events: Path) -> dict[str, float]:
    found = {}
    for text in events.read_text().splitlines() if events.exists() else ():
        with contextlib.suppress(ValueError):
            when, host, kind, *_ = json.loads(text)
            if kind == "done" and host:
                found[host] = float(when)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=400, help="MB")
    parser.add_argument("--peer-size", type=int, default=100, help="MB, for tools that take N times as long")
    parser.add_argument("--hosts", default="8,16")
    parser.add_argument("--only", default="file,model-dir,again,trouble,scp,rsync,ansible")
    parser.add_argument("--runs", type=int, default=3, help="of flagprov's file and model-dir")
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    counts = [int(word) for word in given.hosts.split(",")]
    only = given.only.split(",")
    rows: list[Row] = []
    shutil.rmtree(MEMORY, ignore_errors=True)
    MEMORY.mkdir(parents=True)
    options = "huge=within_size,size=90%"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(MEMORY)], check=True)
    try:
        sources = MEMORY / "sources"
        one = make_file(sources / "one" / "model", given.size * 1_000_000)
        many = make_model(sources / "many" / "model", given.size * 1_000_000)
        peer = make_file(sources / "peer" / "model", given.peer_size * 1_000_000)
        for count in counts:
            hosts = list(range(count))
            with Fleet(count, MEMORY / "fleet") as fleet:
                for work, source in (("file", one), ("model-dir", many)):
                    if work not in only:
                        continue
                    bench = Bench(fleet, source, given.python)
                    found = median(measured(bench, hosts, given.runs))
                    rows.append(bench.row("flagprov", work, hosts, found))
                    if work == "file" and "again" in only:
                        rows.append(bench.row("flagprov", "again", hosts, bench.run_ours(hosts)))
                    fleet.end_jobs()
                    fleet.clean()
                if "trouble" in only and count == counts[0]:
                    rows += Bench(fleet, one, given.python).trouble(hosts)
                    fleet.end_jobs()
                    fleet.clean()
                for tool in ("scp", "rsync", "ansible"):
                    if tool in only:
                        bench = Bench(fleet, peer, given.python)
                        rows.append(bench.row(tool, "file", hosts, bench.run_peer(tool, hosts)))
                        bench.verified(hosts)
                        if tool != "scp":
                            rows.append(bench.row(tool, "again", hosts, bench.run_peer(tool, hosts)))
                        fleet.clean()
    finally:
        subprocess.run(["umount", "-l", str(MEMORY)], check=False)
        MEMORY.rmdir()
    OUT.mkdir(exist_ok=True)
    file = OUT / "distribution.json"
    known = json.loads(file.read_text()) if file.exists() else []
    new = {(row["tool"], row["work"], row["hosts"]) for row in rows}
    kept = [row for row in known if (row["tool"], row["work"], row["hosts"]) not in new]
    file.write_text(json.dumps(kept + rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
