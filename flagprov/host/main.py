"""Requests in, JSON lines out; one request a line until standard input ends."""

from __future__ import annotations

import json
import os
import sys

from flagprov.host.wire import Blocked, send

STATE = "/var/lib/flagprov"


def answer(request: dict[str, object]) -> dict[str, object]:
    """The result of one request; modules are imported by what is asked for."""
    op = request.get("op")
    if op in ("measure", "status") and request.get("lease"):  # minutes, in which nobody else renews it here
        from flagprov.host.lease import Beating

        with Beating(dict(request.pop("lease"))):  # type: ignore[call-overload]
            return answer(request)
    if op == "survey":
        from flagprov.host.survey import survey

        return survey(request)
    if op == "look":
        from flagprov.host.converge import look

        return look(request)
    if op == "converge":
        from flagprov.host.converge import converge

        return converge(request)
    if op == "status":
        from flagprov.host.status import status

        return status(request)
    if op == "preflight":
        from flagprov.host.preflight import preflight

        return preflight(request)
    if op == "verify":
        from flagprov.host.verify import verify

        return verify(request)
    if op == "unused":
        from flagprov.host.prune import unused

        return unused(request)
    if op == "kept":
        from flagprov.host.prune import kept

        return kept(request)
    if op == "logs":
        from flagprov.host.status import logs

        return logs(request)
    if op == "facts":
        from flagprov.host.facts.collect import facts

        return facts(request)
    if op == "packages":
        from flagprov.host.packages import packages

        return packages(request)
    if op == "lease":
        from flagprov.host import lease

        return lease.answer(request)
    if op == "history":
        from flagprov.host import history

        return history.answer(request)
    if op == "mark":
        from flagprov.host import history

        return history.marked(request)
    if op == "measure":
        from flagprov.host.gate import measure

        return measure(request)
    if op == "gateway":
        from flagprov.host import gateway

        return gateway.answer(request)
    if op == "attach":
        from flagprov.host.jobs import attach

        return attach(str(request["job"]))
    if op in ("reach", "held", "room", "transfer", "release", "load", "fetch", "build", "layer"):
        from flagprov.host.transfer import requests

        return requests.answer(str(op), request)
    raise Blocked("request", "unknown operation %r" % (op,), "update flagprov on the controller")


def main() -> None:
    os.umask(0o022)
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            send({"result": answer(json.loads(line))})
        except Blocked as problem:
            send({"error": problem.wire()})
        except (BrokenPipeError, KeyboardInterrupt):
            return
        except OSError as error:
            where = error.filename or "the host"
            send({"error": Blocked("host program", "%s: %s" % (where, error.strerror or error)).wire()})
        except (
            Exception
        ) as error:  # the controller shows one line; the traceback stays on stderr for its debug file
            import traceback

            traceback.print_exc()
            message = "%s: %s" % (type(error).__name__, error)
            send({"error": Blocked("host program", message, "this is a bug of flagprov").wire()})
