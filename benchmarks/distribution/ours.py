"""One fan-out by flagprov as its own process, so that its time, CPU and memory can be seen."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

BEGUN = time.time()

from flagprov.distribute.content import content_of  # noqa: E402
from flagprov.distribute.fan_out import Here, Target, There, Transfer  # noqa: E402
from flagprov.errors import HostError  # noqa: E402
from flagprov.host.transfer.layout import listing, written  # noqa: E402
from flagprov.models.event import Event  # noqa: E402
from flagprov.models.fleet import Connection, Fleet, Host  # noqa: E402
from flagprov.site import Site  # noqa: E402
from flagprov.transport import Connections  # noqa: E402


def peak_mib() -> int:
    """The most memory it had; getrusage would tell of its parent too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--site", type=Path, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--known-hosts", required=True)
    parser.add_argument("--events", type=Path)
    parser.add_argument("--survey", action="store_true", help="only what a deploy has done before")
    parser.add_argument("--there", help="HOST:PATH, where the hosts get the source's files from")
    parser.add_argument("hosts", nargs="+")
    given = parser.parse_args()

    def host_at(address: str) -> Host:
        known = {"identity_files": (given.key,), "known_hosts": (given.known_hosts,)}
        return Host(address, Connection(address, **known, agent=False))

    hosts = tuple(host_at(address) for address in given.hosts)
    events = given.events.open("a") if given.events else None
    done: dict[str, float] = {}

    def on_event(event: Event) -> None:
        if event.kind == "done" and event.host:
            done[event.host] = round(time.time() - BEGUN, 2)
        if events:
            words = [round(event.time - BEGUN, 2), event.host, event.kind, event.text, dict(event.data)]
            events.write(json.dumps(words) + "\n")
            events.flush()

    if given.survey:
        with Connections(Fleet(given.site / "inventory", hosts)) as connections:
            connections.each(hosts, lambda session: session.ask({"op": "reach", "path": given.target}))
        return
    content = content_of(listing(str(given.source)), written=written(str(given.source)))
    fleet = Fleet(given.site / "inventory", hosts)
    with Connections(fleet) as connections:
        targets = [Target(host, given.target) for host in hosts]
        source: Here | There = Here(given.source)
        if given.there:
            address, _, path = given.there.partition(":")
            source = There(host_at(address), path)
        transfer = Transfer(connections, Site(given.site), content, source, targets, on_event)
        found = transfer.run()
    used = resource.getrusage(resource.RUSAGE_SELF)
    failed = {name: error.message for name, error in found.items() if isinstance(error, HostError)}
    answer = {
        "seconds": round(time.time() - BEGUN, 2),
        "last_host": max(done.values(), default=None),
        "done": done,
        "failed": failed,
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "rss_mib": peak_mib(),
        "results": {k: v for k, v in found.items() if k not in failed},
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
