"""One host, one connection, one running host program."""

from __future__ import annotations

import contextlib
import json
import select
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fabric
import paramiko

from flagprov.errors import HostError, NewerError, UnreachableError
from flagprov.models.fleet import Connection, Host
from flagprov.transport.connect import Opener
from flagprov.transport.program import Program

_PROMPT = "flagprov-sudo:"
_ROOT = 'echo "{\\"stub\\": \\"root\\"}"; '  # says that sudo is content, with or without the password
_LOST = (OSError, EOFError, paramiko.SSHException)


class Session:
    """Talks with the host program; starts it with the first request and keeps it for the next ones."""

    def __init__(self, host: Host, opener: Opener, program: Callable[[], Program]) -> None:
        self.host = host
        self._opener = opener
        self._program = program
        self._connection: fabric.Connection | None = None
        self._channel: paramiko.Channel | None = None
        self._pending = b""
        self._lock = threading.Lock()
        self.execs = 0

    def open(self) -> None:
        """Opens the connection; a request does so by itself."""
        if self._connection is None or not self._connection.is_connected:
            self.close()
            self._connection = self._opener.open(self.host.name, self.host.connection)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._lock.locked()

    def request(self, payload: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields every line of the answer; the last one holds the result or the error."""
        with self._lock:
            finished = False
            try:
                self._send(payload)
                while not finished:
                    line = self._decode(self._line(payload), payload)
                    finished = "result" in line or "error" in line
                    yield line
            except _LOST as error:
                raise self._lost(payload, error) from error
            finally:
                if not finished:
                    self._end_program()  # an answer half read would be taken for the next one's

    def ask(
        self, payload: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """The result of a request; its error as a HostError."""
        for line in self.request(payload):
            if "result" in line:
                result: dict[str, Any] = line["result"]
                return result
            if "error" in line:
                error = line["error"]
                kind = NewerError if error.get("kind") == "version" else HostError
                raise kind(
                    self.host.name,
                    str(error.get("step") or payload.get("op", "")),
                    str(error.get("message", "")),
                    remedy=str(error.get("remedy") or ""),
                    log=str(error.get("log") or ""),
                )
            if on_event is not None and "event" in line:
                on_event(line["event"])
        raise HostError(self.host.name, str(payload.get("op", "")), "the host program gave no result")

    def tunnel(self, port: int) -> paramiko.Channel:
        """A channel to a port of the host itself, for what its firewall keeps from us."""
        self.open()
        assert self._connection is not None
        transport: paramiko.Transport = self._connection.client.get_transport()
        return transport.open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=10)

    def close(self) -> None:
        """Ends the host program and the connection."""
        self._end_program()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.client.close()

    def _send(self, payload: Mapping[str, Any]) -> None:
        data = json.dumps(payload, separators=(",", ":")).encode() + b"\n"
        if self._channel is not None and self._alive():
            try:
                self._channel.sendall(data)
                return
            except _LOST:
                self._end_program()  # it ended by itself meanwhile; nothing of this request has reached it
        self.open()
        answer = self._start(self._program().run_command(self.host.connection.python), data)
        if answer.get("stub") == "missing":
            program = self._program()
            archive = program.archive()
            command = program.install_command(self.host.connection.python, len(archive))
            answer = self._start(command, archive + data)
        self._check_stub(answer)

    def _alive(self) -> bool:
        channel = self._channel
        return channel is not None and not channel.closed and not channel.exit_status_ready()

    def _start(self, script: str, data: bytes) -> dict[str, Any]:
        """Starts a script as root, sends the data at once, and reads the first line of the program."""
        assert self._connection is not None
        self._end_program()
        channel = self._connection.client.get_transport().open_session(timeout=60)
        self._channel, self._pending = channel, b""
        self.execs += 1
        asked = self.host.connection.become and self.host.connection.become_password is not None
        channel.exec_command(as_root(self.host.connection, _ROOT + script if asked else script))
        if asked:
            self._give_password(channel)
        with contextlib.suppress(*_LOST):  # the script may have ended already: its first line says why
            channel.sendall(data)
        while True:
            line = self._read_line()
            if line is None:
                raise self._no_program(channel)
            if line.startswith(b'{"stub"'):
                answer: dict[str, Any] = json.loads(line)
                if answer["stub"] != "root":
                    return answer

    def _give_password(self, channel: paramiko.Channel) -> None:
        """Waits for sudo's prompt, or for the script where sudo wants no password this time."""
        prompt, password, sent = b"", self.host.connection.become_password, False
        arrival = select.poll()
        arrival.register(channel.fileno(), select.POLLIN)
        while not channel.recv_ready() and not channel.exit_status_ready():
            arrival.poll(1000)
            if channel.recv_stderr_ready():
                prompt += channel.recv_stderr(4096)
                if prompt.count(_PROMPT.encode()) > 1:
                    raise self._sudo("the password for sudo is wrong", "Correct ansible_become_password.")
                if _PROMPT.encode() in prompt and password is not None and not sent:
                    channel.sendall(password.reveal().encode() + b"\n")
                    sent = True
            elif not channel.get_transport().is_active():
                raise EOFError
        if channel.exit_status_ready() and not channel.recv_ready():
            raise self._no_program(channel, prompt)

    def _check_stub(self, answer: Mapping[str, Any]) -> None:
        host, stub = self.host.name, answer.get("stub")
        if stub == "ready":
            return
        if stub == "python":
            found = f"only Python {answer['version']}" if answer.get("version") else "no python3"
            raise HostError(
                host,
                "python",
                f"the host has {found}; Python 3.8 or later is needed",
                remedy="`flagprov deploy` installs it; or set ansible_python_interpreter.",
            )
        raise HostError(
            host,
            "program",
            f"flagprov's program cannot be kept under {self._program().base}: {answer.get('error', stub)}",
            remedy="Make room there, or make it writable for root.",
        )

    def _line(self, payload: Mapping[str, Any]) -> bytes:
        line = self._read_line()
        if line is not None:
            return line
        channel = self._channel
        if channel is None or not self._transport_active():
            raise EOFError("connection lost")
        status, log = channel.recv_exit_status(), _stderr(channel)
        raise HostError(
            self.host.name,
            str(payload.get("op", "")),
            f"flagprov's program ended with status {status} before its result",
            remedy="This is a fault of flagprov; the log has its last words.",
            log=log,
        )

    def _read_line(self) -> bytes | None:
        """The next line of standard output; None at its end."""
        while b"\n" not in self._pending:
            if (channel := self._channel) is None:
                raise EOFError("it was closed meanwhile")
            data = channel.recv(65536)
            if not data:
                return None
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _decode(self, line: bytes, payload: Mapping[str, Any]) -> dict[str, Any]:
        try:
            decoded = json.loads(line)
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict):
            text = line[:200].decode(errors="replace")
            raise HostError(
                self.host.name, str(payload.get("op", "")), f"flagprov's program sent no JSON: {text}"
            )
        return decoded

    def _no_program(self, channel: paramiko.Channel, said: bytes = b"") -> Exception:
        """Why the script ended before its first line: nearly always sudo."""
        if not self._transport_active():
            return EOFError("connection lost")
        status = channel.recv_exit_status()
        text = " ".join((said.decode(errors="replace") + _stderr(channel)).replace(_PROMPT, " ").split())
        user = self.host.connection.user
        if not self.host.connection.become:
            return HostError(
                self.host.name, "program", f"the shell of {user} ends with status {status}: {text}", log=text
            )
        if "password is required" in text and self.host.connection.become_password is None:
            return self._sudo(
                f"sudo wants a password from {user}",
                "Set ansible_become_password (in a vault), or allow sudo without a password.",
            )
        if "incorrect password" in text or "try again" in text:
            return self._sudo("the password for sudo is wrong", "Correct ansible_become_password.")
        if status == 127 or "not found" in text:
            return self._sudo(f"there is no sudo on the host: {text}", "Install sudo, or log in as root.")
        if "tty" in text:
            return self._sudo(f"sudo wants a terminal: {text}", "Take `requiretty` out of its sudoers.")
        return self._sudo(f"{user} may not use sudo: {text}", f"Allow {user} in the host's sudoers.")

    def _sudo(self, message: str, remedy: str) -> HostError:
        return HostError(self.host.name, "sudo", message, remedy=remedy)

    def _lost(self, payload: Mapping[str, Any], error: BaseException) -> HostError:
        reason, connection = str(error) or type(error).__name__, self._connection
        self._connection = None
        if connection is not None:
            cause = getattr(connection.client.get_transport(), "saved_exception", None)
            reason = getattr(cause, "strerror", None) or str(cause or "") or reason
            connection.client.close()
        op = str(payload.get("op", ""))
        return UnreachableError(self.host.name, op, f"the connection was lost during {op}: {reason}")

    def _transport_active(self) -> bool:
        return self._connection is not None and bool(self._connection.is_connected)

    def _end_program(self) -> None:
        channel, self._channel = self._channel, None
        self._pending = b""
        if channel is not None:
            with contextlib.suppress(*_LOST):  # its goodbye may find the connection gone
                channel.close()


def as_root(connection: Connection, script: str) -> str:
    """The command line that runs a shell script as root; never with a secret in it."""
    command = f"exec sh -c {shlex.quote(script)}"
    if not connection.become:
        return command
    how = "-n" if connection.become_password is None else f"-S -p {_PROMPT}"
    user = "" if connection.become_user == "root" else f" -u {shlex.quote(connection.become_user)}"
    return f"exec sudo -H {how}{user} -- sh -c {shlex.quote(script)}"


def _stderr(channel: paramiko.Channel) -> str:
    said = b""
    while channel.recv_stderr_ready():
        said += channel.recv_stderr(65536)
    return said.decode(errors="replace").strip()[-8000:]
