"""Replicas of other releases on hosts that a run drains to provision them; pure."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from flagprov.models.desired import Replica
from flagprov.models.observed import Survey
from flagprov.report.text import names as in_words
from flagprov.rollout.arrange import Arrangement
from flagprov.rollout.options import Options
from flagprov.rollout.order import Size

ONE_BY_ONE = (Size(count=1),)


def spared(
    arrange: Callable[[Options], Arrangement],
    options: Options,
    replicas: Sequence[Replica],
    drained: Collection[str],
    surveys: Mapping[str, Survey],
    mine: str,
) -> tuple[Arrangement, dict[str, list[str]]]:
    """One by one where a batch would take all that serves of another release; and what is taken even so.

    Arranged as the options say in all other cases; `mine` is the release that is arranged.
    """
    found = arrange(options)
    taken = taken_whole(found.groups or [replicas], drained, surveys, mine)
    if taken and found.groups:
        found = arrange(dataclasses.replace(options, batches=ONE_BY_ONE))
        taken = taken_whole(found.groups, drained, surveys, mine)
    return found, taken


def taken_whole(
    batches: Iterable[Collection[Replica]], drained: Collection[str], surveys: Mapping[str, Survey], mine: str
) -> dict[str, list[str]]:
    """Releases but `mine` that serve nowhere while a batch is provisioned -> hosts that they serve on."""
    places: defaultdict[str, list[set[str]]] = defaultdict(list)
    for seen in surveys.values():
        for running in seen.running:
            if running.release != mine and running.state == "running":
                places[running.release].append(set(running.hosts))
    away = [{host for replica in batch for host in replica.hosts}.intersection(drained) for batch in batches]
    return {
        release: sorted(set().union(*replicas))
        for release, replicas in places.items()
        if any(all(hosts & gone for hosts in replicas) for gone in away)
    }


def notes(taken: Mapping[str, Collection[str]]) -> Iterator[str]:
    for release, hosts in taken.items():
        yield f"{release} serves on {in_words(hosts)} alone: nothing of it answers while that is provisioned"
