"""Asking hosts: their survey, and a look at what they should have. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flagprov.errors import HostError
from flagprov.host.history import asked
from flagprov.models.desired import Resource, container_name, unit_name
from flagprov.models.observed import (
    UP,
    Change,
    Device,
    Look,
    Looked,
    Problem,
    Running,
    Survey,
    substitutes,
)
from flagprov.transport import Session


def survey(session: Session, *, rdma: bool = False) -> Survey:
    """`rdma`: with the RDMA ports, for replicas over several hosts."""
    return read_survey(session.host.name, session.ask({"op": "survey", **({"rdma": True} if rdma else {})}))


def survey_for(session: Session, release: str, sets: Sequence[str], *, rdma: bool = False) -> Survey:
    """A survey, and in the same answer a look at what was deployed last, in case that is wanted still."""
    payload = {"op": "survey", "release": release, "set": list(sets), **({"rdma": True} if rdma else {})}
    return read_survey(session.host.name, session.ask(payload))


def first_look(session: Session, survey: Survey, resources: Sequence[Resource]) -> Look:
    """The look that came with the survey where it was at these resources, else one of its own."""
    if survey.looked and survey.looked.asked == asked(resource.wire() for resource in resources):
        return survey.looked.look
    return look(session, resources)


def look(session: Session, resources: Sequence[Resource]) -> Look:
    answer = session.ask({"op": "look", "resources": [resource.wire() for resource in resources]})
    return read_look(session.host.name, answer)


def read_survey(host: str, answer: Mapping[str, Any]) -> Survey:
    """The host's words as a value; what is not understood is an error, never a guess."""
    try:
        devices = {
            str(tool): tuple(read_device(device) for device in found)
            for tool, found in answer["devices"].items()
        }
        running = tuple(_serving(read_running(entry)) for entry in answer["running"])
        records = dict(answer["records"])
        records.update((each.replica, _of(each, records)) for each in substitutes(running, records))
        return Survey(
            host=host,
            arch=answer["arch"],
            os=answer["os"],
            kernel=answer["kernel"],
            cpus=answer["cpus"],
            memory_mib=answer["memory_mib"],
            docker_version=answer["docker_version"],
            provisioned=answer["provisioned"],
            devices=devices,
            running=running,
            records=records,
            facts=dict(answer["facts"]),
            looked=_read_looked(host, answer.get("looked")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(host, "survey", f"its answer is not understood: {error!r}") from None


def _read_looked(host: str, answer: Mapping[str, Any] | None) -> Looked | None:
    return Looked(str(answer["asked"]), read_look(host, answer["look"])) if answer else None


def read_device(entry: Mapping[str, Any]) -> Device:
    return Device(
        index=int(entry["index"]),
        name=str(entry["name"]),
        memory_mib=entry["memory_mib"],
        processes=tuple(entry["processes"]),
        uuid=str(entry["uuid"]),
        used_mib=entry.get("used_mib"),
        health=str(entry.get("health", "ok")),
        card=entry.get("card"),
        phy_id=entry.get("phy_id"),
        logical=entry.get("logical"),
    )


def read_running(entry: Mapping[str, Any]) -> Running:
    return Running(
        replica=str(entry["replica"]),
        release=str(entry["release"]),
        chip=str(entry["chip"]),
        hosts=tuple(entry["hosts"]),
        devices=tuple(int(index) for index in entry["devices"]),
        port=int(entry["port"]),
        state=str(entry["state"]),
        slot=str(entry.get("slot", "")),
        beside=read_running(entry["beside"]) if entry.get("beside") else None,
    )


def _serving(found: Running) -> Running:
    """What serves is the replica, by its record or not: it is not to end before another one is proved."""
    other = found.beside
    if found.state in UP or other is None or other.state != "running":
        return found
    return replace(other, beside=replace(found, beside=None))


def _of(running: Running, records: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a replica, with the endpoint of what serves in its place."""
    record = records[running.replica]
    where = {
        "container": container_name(running.instance),
        "unit": unit_name(running.instance),
        "port": running.port,
    }
    return {**record, "probe": {**record["probe"], **where}} if record.get("probe") else record


def read_look(host: str, answer: Mapping[str, Any]) -> Look:
    try:
        return Look(
            host=host,
            digest=answer["digest"],
            changes=tuple(Change(**change) for change in answer["changes"]),
            problems=tuple(
                Problem(p["step"], p["message"], p.get("remedy", ""), p.get("replica"))
                for p in answer["problems"]
            ),
            notes=dict(answer["notes"]),
        )
    except (KeyError, TypeError) as error:
        raise HostError(host, "look", f"its answer is not understood: {error!r}") from None
