"""Ansible's events as flagprov's events and outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.apply.ansible_events import Listener, message_of, step_of
from flagprov.models.event import Event
from flagprov.models.outcome import HostOutcome


def run(
    *said: tuple[str, dict[str, Any]], hosts: tuple[str, ...] = ("one",)
) -> tuple[dict[str, HostOutcome], list[Event]]:
    events: list[Event] = []
    ticks = iter(range(1000))
    listener = Listener(hosts, events.append, "hosts.ini", "the log", clock=lambda: float(next(ticks)))
    listener.begin()
    for name, data in said:
        listener({"event": name, "event_data": data})
    return listener.end(), events


def task(name: str = "Set daemon.json", host: str = "one", **result: Any) -> dict[str, Any]:
    return {"host": host, "role": "container_engine", "task": name, "res": result}


def stats(**more: dict[str, int]) -> tuple[str, dict[str, Any]]:
    return "playbook_on_stats", {"processed": {"one": 1, "two": 1}, **more}


def test_changes_are_counted_and_told() -> None:
    outcomes, events = run(
        ("runner_on_start", task()),
        ("runner_on_ok", task(changed=True)),
        ("runner_on_ok", task("Look")),
        stats(),
    )
    assert (outcomes["one"].state, outcomes["one"].changes) == ("changed", 1)
    assert [(event.kind, event.step, event.text) for event in events] == [
        ("started", "provision", "roles"),
        ("progress", "provision", "container_engine: Set daemon.json"),
        ("note", "container_engine: Set daemon.json", "changed"),
        ("done", "provision", "1 changed"),
    ]
    assert {event.stage for event in events} == {"provision"}


def test_secret_changes_are_counted() -> None:
    outcomes, _ = run(("runner_on_ok", task(censored="hidden")), stats(changed={"one": 1}))
    assert (outcomes["one"].state, outcomes["one"].changes) == ("changed", 1)


def test_no_change() -> None:
    outcomes, events = run(("runner_on_ok", task()), stats())
    assert outcomes["one"].state == "unchanged"
    assert events[-1].text == "no change"


def test_a_refusal_of_a_role_has_its_own_remedy() -> None:
    message = "docker on one\nmust be restarted\nremedy: run again\nwith --allow-disruption\nlog:\n1\n2\n"
    outcomes, events = run(("runner_on_failed", task(msg=message)), stats(failures={"one": 1}))
    outcome = outcomes["one"]
    assert outcome.state == "failed"
    assert outcome.step == "container_engine: Set daemon.json"
    assert outcome.message == "docker on one must be restarted"
    assert outcome.remedy == "run again with --allow-disruption"
    assert outcome.log == "1\n2"
    assert events[-1].kind == "failed"


def test_what_was_rescued_is_no_failure() -> None:
    outcomes, _ = run(
        ("runner_on_failed", task(msg="no")), ("runner_on_ok", task("Again", changed=True)), stats()
    )
    assert outcomes["one"].state == "changed"
    assert outcomes["one"].message == ""


def test_one_dead_host_does_not_hide_the_other() -> None:
    outcomes, _ = run(
        (
            "runner_on_unreachable",
            task(msg="Failed to connect to the host via ssh: Host key verification failed."),
        ),
        ("runner_on_ok", task(host="two")),
        stats(dark={"one": 1}),
        hosts=("one", "two"),
    )
    assert outcomes["one"].state == "unreachable"
    assert outcomes["one"].step == "connect"
    assert outcomes["one"].message.startswith("Failed to connect")
    assert outcomes["one"].remedy == "flagprov trust hosts.ini"
    assert outcomes["two"].state == "unchanged"


def test_a_host_that_ansible_did_not_get_to_has_failed() -> None:
    outcomes, _ = run(("runner_on_ok", task()))
    assert outcomes["one"].state == "failed"
    assert outcomes["one"].message == "Ansible ended before this host was done"


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("Missing sudo password", "set ansible_become_password for this host, in a vault"),
        ("root@one: Permission denied (publickey).", "check ansible_user and its key for this host"),
        ("something else", "what Ansible said is in the log"),
    ],
)
def test_known_messages_have_a_remedy(message: str, remedy: str) -> None:
    outcomes, _ = run(("runner_on_failed", task(msg=message)), stats(failures={"one": 1}))
    assert outcomes["one"].remedy == remedy


def test_a_loops_failure_is_its_first_failed_item() -> None:
    items = [{"failed": False, "msg": "fine"}, {"failed": True, "msg": "no space"}]
    assert message_of({"msg": "One or more items failed", "results": items}) == "no space"


def test_a_programs_last_words_are_told() -> None:
    assert (
        message_of({"msg": "non-zero return code", "stderr": "1\n2\n3\n4\n"})
        == "non-zero return code: 2 / 3 / 4"
    )


def test_step_of_a_task_outside_roles() -> None:
    assert step_of({"task": "Note"}) == "Note"
