"""What flagprov would have on each host, as plain data: the same work for every tool.

desired.py INVENTORY RELEASE [--set KEY=VALUE] > work.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flagprov.apply.bring import Bringing
from flagprov.models.fleet import Host
from flagprov.models.observed import Survey
from flagprov.observe import survey
from flagprov.placement import place
from flagprov.preparation import Request, prepare
from flagprov.transport import Connections


def main() -> None:
    inventory, release, *sets = sys.argv[1:]
    job = prepare(Request(Path(inventory), release, sets=tuple(text for text in sets if text != "--set")))
    with Connections(job.fleet) as connections:
        answers = connections.each(job.fleet.hosts, survey)
        surveys = {name: found for name, found in answers.items() if isinstance(found, Survey)}
        placement = place(job.fleet, job.release.name, job.wishes(surveys), job.reserved(surveys))
        bringing = Bringing(job, placement, None, lambda event: None)
    work = []
    for host in job.fleet.hosts:
        desired = bringing.desired(host, surveys[host.name])
        assert not desired.pending, desired.pending
        work.append(_host(host, [resource.wire() for resource in desired.resources]))
    json.dump(work, sys.stdout)


def _host(machine: Host, resources: list[dict[str, Any]]) -> dict[str, Any]:
    connection = machine.connection
    host: dict[str, Any] = {
        "name": machine.name,
        "address": connection.address,
        "port": connection.port,
        "user": connection.user,
        "directories": [],
        "files": [],
    }
    for resource in resources:
        kind, spec = resource["kind"], resource["spec"]
        if kind == "directory":
            host["directories"].append(spec["path"])
        elif kind == "tree":
            host["directories"].append(spec["path"])
            host["files"] += [
                {"path": f"{spec['path']}/{name}", "mode": "0644", "content": content}
                for name, content in spec["files"].items()
            ]
        elif kind == "file":
            host["files"].append({key: spec[key] for key in ("path", "mode", "content")})
        elif kind == "container":
            create = _command(spec["name"], spec["create"], spec["image"]["reference"])
            host["container"], host["folder"] = spec["name"], spec["folder"]
            host["made"] = hashlib.sha256(json.dumps(create).encode()).hexdigest()
            host["create"] = [*create[:2], "--label", f"made={host['made']}", *create[2:]]
        elif kind == "current":
            host["current"], host["config"] = spec["path"], Path(spec["config"]).name
        elif kind == "unit":
            host["unit"] = spec["unit"]
        elif kind == "probe":
            host["serves"], host["model"] = spec["port"], spec["model"]
        elif kind == "image":
            host["image"] = spec["reference"]
    host["directories"] += sorted(
        {str(Path(f["path"]).parent) for f in host["files"]} - {*host["directories"]}
    )
    return host


def _command(name: str, body: Mapping[str, Any], image: str) -> list[str]:
    """`docker create` with the same options."""
    options = ["--name", name, "--init", "--network", body["HostConfig"]["NetworkMode"]]
    for mount in body["HostConfig"]["Mounts"]:
        ending = ",readonly" if mount["ReadOnly"] else ""
        options += ["--mount", f"type=bind,source={mount['Source']},target={mount['Target']}{ending}"]
    for key, value in body["Labels"].items():
        options += ["--label", f"{key}={value}"]
    for entry in body["Env"]:
        options += ["--env", entry]
    program, *arguments = body["Entrypoint"]
    return ["docker", "create", *options, "--entrypoint", program, image, *arguments, *body["Cmd"]]


if __name__ == "__main__":
    main()
