"""The transport against a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Host, Secret
from flagprov.transport import Connections, Program
from flagprov.transport.auth import forget_agents
from flagprov.transport.connect import Opener
from tests.integration import sshd as real
from tests.integration.sshd import Sshd, fleet

pytestmark = pytest.mark.skipif(
    real.SSHD is None or os.geteuid() != 0, reason="needs root and openssh-server's sshd"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path / "sshd").start()
    server.know()
    yield server
    server.stop()
    forget_agents()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return real.program(tmp_path / "programs")


def connect(program: Program, *hosts: Host) -> Connections:
    return Connections(fleet(*hosts), program=lambda: program)


def failure(program: Program, host: Host) -> HostError:
    with connect(program, host) as connections:
        outcome = connections.each([host], lambda session: session.ask({"op": "x"}))[host.name]
    assert isinstance(outcome, HostError), outcome
    return outcome


class TestProgram:
    def test_is_sent_once_and_then_costs_one_exec(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            session = connections.session(host)
            assert session.ask({"op": "x", "a": "ä"})["asked"] == {"op": "x", "a": "ä"}
            assert session.execs == 2
        with connect(program, host) as connections:
            session = connections.session(host)
            session.ask({"op": "x"})
            session.ask({"op": "x"})
            assert session.execs == 1

    def test_is_complete_and_only_root_may_change_it(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})
        kept = Path(program.directory)
        assert {name for name, _ in program.files} <= {
            str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()
        }
        assert oct(kept.stat().st_mode & 0o777) == "0o755"
        assert [path.name for path in kept.parent.iterdir()] == [program.name]

    def test_keeps_the_last_three(self, server: Sshd, program: Program) -> None:
        base = Path(program.base)
        for age in range(5):
            (base / f"old{age}").mkdir(parents=True)
            os.utime(base / f"old{age}", (1000 - age, 1000 - age))
        host = server.host()
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})
        assert {path.name for path in base.iterdir()} == {program.name, "old0", "old1"}

    def test_cannot_be_kept(self, server: Sshd, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        error = failure(real.program(tmp_path / "file"), server.host())
        assert error.step == "program"
        assert "exists" in error.message

    def test_no_python(self, server: Sshd, program: Program, tmp_path: Path) -> None:
        old = tmp_path / "python"
        old.write_text('#!/bin/sh\necho \'{"stub": "python", "version": "3.6"}\'\n')
        old.chmod(0o755)
        (Path(program.directory)).mkdir(parents=True)
        (Path(program.directory) / "start.py").write_text("")
        error = failure(program, server.host(python=str(old)))
        assert error.step == "python"
        assert "3.6" in error.message


class TestRequests:
    def test_yields_events_then_the_result(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            lines = list(connections.session(host).request({"op": "x", "events": 3}))
        assert [line["event"]["text"] for line in lines[:-1]] == ["0", "1", "2"]
        assert "result" in lines[-1]

    def test_large_payload(self, server: Sshd, program: Program) -> None:
        host, text = server.host(), "x" * 5_000_000
        with connect(program, host) as connections:
            assert connections.session(host).ask({"op": "x", "text": text})["asked"]["text"] == text

    def test_error_becomes_a_host_error(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            with pytest.raises(HostError) as caught:
                connections.session(host).ask({"op": "error"})
            assert connections.session(host).ask({"op": "x"})["asked"] == {"op": "x"}
        error = caught.value
        assert (error.host, error.step, error.message, error.remedy, error.log) == (
            "one",
            "probe",
            "no",
            "do",
            "why",
        )

    def test_program_that_dies(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            session = connections.session(host)
            with pytest.raises(HostError, match="status 3") as caught:
                session.ask({"op": "die"})
            assert "last words" in caught.value.log
            assert not isinstance(caught.value, UnreachableError)
            assert session.ask({"op": "x"})["uid"] == 0

    def test_noise_is_no_answer(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections, pytest.raises(HostError, match="no JSON: hello"):
            connections.session(host).ask({"op": "noise"})

    def test_half_read_answer_does_not_disturb_the_next(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            session = connections.session(host)
            lines = session.request({"op": "hang", "events": 2})
            assert next(lines)["event"]["text"] == "0"
            lines.close()  # type: ignore[attr-defined]
            assert session.ask({"op": "x"})["asked"] == {"op": "x"}

    def test_connection_killed_mid_request_is_unreachable(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            session = connections.session(host)
            lines = session.request({"op": "hang", "events": 1})
            next(lines)
            for child in server.children():
                real.kill(child)
            with pytest.raises(UnreachableError, match="lost"):
                next(lines)
            assert session.ask({"op": "x"})["uid"] == 0  # a new connection

    def test_restarted_sshd_is_connected_again(self, server: Sshd, program: Program) -> None:
        host = server.host()
        with connect(program, host) as connections:
            session = connections.session(host)
            first = session.ask({"op": "x"})["pid"]
            server.restart()
            outcome = connections.each([host], lambda session: session.ask({"op": "x"}))["one"]
            assert isinstance(outcome, UnreachableError) or outcome["pid"] != first
            assert connections.session(host).ask({"op": "x"})["pid"] != first


class TestSilence:
    """A host that vanishes says nothing: no FIN, no RST."""

    def test_is_noticed(self, server: Sshd, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flagprov.transport.connect.SILENCE", 2.0)
        host = server.host(keepalive_s=0.3)
        with connect(program, host) as connections:
            lines = connections.session(host).request({"op": "hang", "events": 1})
            next(lines)
            children = server.children()
            for child in children:
                os.kill(child, signal.SIGSTOP)
            try:
                with pytest.raises(UnreachableError, match="no answer"):
                    next(lines)
            finally:
                for child in children:
                    os.kill(child, signal.SIGCONT)

    def test_long_work_is_no_silence(
        self, server: Sshd, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flagprov.transport.connect.SILENCE", 1.2)
        host = server.host(keepalive_s=0.2)
        with connect(program, host) as connections:
            assert connections.session(host).ask({"op": "work", "seconds": 2.5})["uid"] == 0

    def test_closing_from_elsewhere_ends_a_request_at_once(self, server: Sshd, program: Program) -> None:
        host = server.host()
        connections = connect(program, host)
        lines = connections.session(host).request({"op": "hang", "events": 1})
        next(lines)
        closer = threading.Timer(0.2, connections.close)
        closer.start()
        with pytest.raises(HostError):
            next(lines)
        closer.join()


class TestHostKeys:
    def test_unknown(self, server: Sshd, program: Program) -> None:
        (server.folder / "known_hosts").write_text("")
        error = failure(program, server.host())
        assert error.step == "host key"
        assert "not known" in error.message
        assert "flagprov trust" in error.remedy
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(server.folder / "host_ed25519.pub")], capture_output=True, text=True
        ).stdout
        assert shown.split()[1] in error.message

    def test_changed(self, server: Sshd, program: Program) -> None:
        (server.folder / "host_ed25519").unlink()
        server.restart()
        error = failure(program, server.host())
        assert error.step == "host key"
        assert "CHANGED" in error.message
        assert "known_hosts line 1" in error.message

    def test_server_with_more_kinds_than_we_know(self, tmp_path: Path, program: Program) -> None:
        server = Sshd(tmp_path / "s", kinds=("ed25519", "rsa", "ecdsa")).start()
        try:
            for kind in server.kinds:
                key = " ".join((server.folder / f"host_{kind}.pub").read_text().split()[:2])
                (server.folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {key}\n")
                host = server.host()
                with connect(program, host) as connections:
                    connections.session(host).ask({"op": "x"})
        finally:
            server.stop()

    def test_hashed_and_second_file(self, server: Sshd, program: Program, tmp_path: Path) -> None:
        known = server.folder / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
        assert "|1|" in known.read_text()
        host = server.host(known_hosts=(str(tmp_path / "site"), str(known)))
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})

    def test_revoked(self, server: Sshd, program: Program) -> None:
        known = server.folder / "known_hosts"
        known.write_text(known.read_text() + "@revoked " + known.read_text())
        assert "revoked" in failure(program, server.host()).message


class TestLogin:
    def test_wrong_key(self, server: Sshd, program: Program, tmp_path: Path) -> None:
        real.keygen(tmp_path / "other")
        error = failure(program, server.host(identity_files=(str(tmp_path / "other"),)))
        assert error.step == "login"
        assert str(tmp_path / "other") in error.message
        assert not isinstance(error, UnreachableError)

    def test_nothing_to_offer(self, server: Sshd, program: Program) -> None:
        assert "no key" in failure(program, server.host(identity_files=())).message

    def test_second_key_fits(self, server: Sshd, program: Program, tmp_path: Path) -> None:
        real.keygen(tmp_path / "other")
        host = server.host(identity_files=(str(tmp_path / "other"), str(server.folder / "id")))
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
    def test_kinds(self, server: Sshd, program: Program, tmp_path: Path, kind: str) -> None:
        real.keygen(tmp_path / "id", kind)
        (server.folder / "authorized_keys").write_text((tmp_path / "id.pub").read_text())
        host = server.host(identity_files=(str(tmp_path / "id"),))
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})

    def test_encrypted_key(self, server: Sshd, program: Program, tmp_path: Path) -> None:
        real.keygen(tmp_path / "locked", passphrase="secret")
        (tmp_path / "locked.pub").unlink()
        error = failure(program, server.host(identity_files=(str(tmp_path / "locked"),)))
        assert "encrypted" in error.message
        assert error.remedy == f"Run `ssh-add {tmp_path / 'locked'}`."

    def test_encrypted_key_held_by_an_agent(
        self, server: Sshd, program: Program, tmp_path: Path, agent: Path
    ) -> None:
        real.keygen(tmp_path / "locked", passphrase="secret")
        (server.folder / "authorized_keys").write_text((tmp_path / "locked.pub").read_text())
        ask = tmp_path / "askpass"
        ask.write_text("#!/bin/sh\necho secret\n")
        ask.chmod(0o755)
        environment = os.environ | {"SSH_AUTH_SOCK": str(agent), "SSH_ASKPASS": str(ask), "DISPLAY": ":9"}
        environment |= {"SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", str(tmp_path / "locked")], check=True, env=environment)
        for files in ((str(tmp_path / "locked"),), ()):
            host = server.host(identity_files=files, agent=True, agent_socket=str(agent))
            with connect(program, host) as connections:
                connections.session(host).ask({"op": "x"})

    @pytest.fixture
    def agent(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        yield path
        forget_agents()
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()


class TestReach:
    def test_closed_port(self, program: Program, server: Sshd) -> None:
        error = failure(program, server.host(port=real.free_port()))
        assert isinstance(error, UnreachableError)
        assert "refuses the connection" in error.message

    def test_unknown_name(self, program: Program, server: Sshd) -> None:
        error = failure(program, server.host(address="nowhere.invalid"))
        assert isinstance(error, UnreachableError)
        assert "cannot be resolved" in error.message

    def test_one_dead_host_never_hides_the_others(self, program: Program, server: Sshd) -> None:
        hosts = [server.host("a"), server.host("dead", port=real.free_port()), server.host("b")]
        with connect(program, *hosts) as connections:
            outcome = connections.each(hosts, lambda session: session.ask({"op": "x"}))
        assert list(outcome) == ["a", "dead", "b"]
        assert [isinstance(x, HostError) for x in outcome.values()] == [False, True, False]

    def test_connections_share_no_state_of_fabric(self, program: Program, server: Sshd) -> None:
        opener = Opener()
        try:
            first, second = (opener.open("one", server.connection()) for _ in range(2))
            assert first.config is not second.config
            first.close()
            assert second.is_connected
            second.close()
        finally:
            opener.close()

    def test_more_hosts_than_max_startups(self, tmp_path: Path, program: Program) -> None:
        server = Sshd(tmp_path / "busy", options=("MaxStartups 3:60:10",)).start()
        try:
            server.know()
            hosts = [server.host(f"h{number}") for number in range(24)]
            with connect(program, *hosts) as connections:
                outcome = connections.each(hosts, lambda session: session.ask({"op": "x"})["uid"])
            assert set(outcome.values()) == {0}
            assert "drop connection" in (server.folder / "log").read_text()
        finally:
            server.stop()

    def test_not_an_sshd(self, program: Program, server: Sshd) -> None:
        with socket.create_server(("127.0.0.1", 0)) as web:
            web.settimeout(10)

            def answer() -> None:
                stream, _ = web.accept()
                with stream:
                    stream.recv(100)
                    stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            error = failure(program, server.host(port=web.getsockname()[1]))
            thread.join()
        assert "does not speak SSH" in error.message

    def test_proxy_command(self, program: Program, server: Sshd) -> None:
        relay = (
            "import socket,sys,os,select\n"
            f"s=socket.create_connection(('127.0.0.1',{server.port}))\n"
            "while 1:\n"
            " for f in select.select([0,s],[],[])[0]:\n"
            "  d=os.read(0,9999) if f==0 else s.recv(9999)\n"
            "  if not d: sys.exit()\n"
            "  s.sendall(d) if f==0 else os.write(1,d)\n"
        )
        (server.folder / "relay.py").write_text(relay)
        host = server.host(address="127.0.0.1", proxy_command=f"python3 {server.folder}/relay.py")
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})
        error = failure(program, server.host(proxy_command="exit 1"))
        assert "ProxyCommand" in error.message


class TestSudo:
    """With a stand-in for sudo: the real one would need a user of this machine."""

    @pytest.fixture
    def sudoers(self, tmp_path: Path) -> Iterator[Sshd]:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "sudo").write_text(
            "#!/bin/sh\n"
            'how=$(cat "$(dirname "$0")/how")\n'
            'echo "$@" >> "$0.log"\n'
            'case "$how $2" in "nobody "*) echo "one is not in the sudoers file." >&2; exit 1;;\n'
            'password" "-n) echo "sudo: a password is required" >&2; exit 1;; esac\n'
            'if [ "$how" = password ]; then\n'
            '  for try in 1 2 3; do printf %s "$4" >&2; read -r said\n'
            '  [ "$said" = geheim ] && break; printf "\\nSorry, try again.\\n" >&2; done\n'
            "fi\n"
            'while [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'
        )
        (folder / "sudo").chmod(0o755)
        server = Sshd(tmp_path / "sshd", environment=f"PATH={folder}:/usr/bin:/bin").start()
        server.know()
        yield server
        server.stop()

    def how(self, server: Sshd, how: str) -> None:
        (server.folder.parent / "bin/how").write_text(how)

    @pytest.mark.parametrize("how", ["password", "free"])
    def test_password_goes_only_where_it_is_asked_for(
        self, sudoers: Sshd, program: Program, how: str
    ) -> None:
        self.how(sudoers, how)
        host = sudoers.host(become=True, become_password=Secret("geheim"))
        with connect(program, host) as connections:
            session = connections.session(host)
            assert session.ask({"op": "x"})["asked"] == {"op": "x"}
            assert session.ask({"op": "x", "n": 2})["asked"] == {"op": "x", "n": 2}
        assert "geheim" not in (sudoers.folder.parent / "bin/sudo.log").read_text()

    def test_without_password(self, sudoers: Sshd, program: Program) -> None:
        self.how(sudoers, "free")
        host = sudoers.host(become=True)
        with connect(program, host) as connections:
            session = connections.session(host)
            session.ask({"op": "x"})
            assert session.execs == 2

    @pytest.mark.parametrize(
        ("how", "password", "said"),
        [
            ("password", Secret("falsch"), "the password for sudo is wrong"),
            ("password", None, "sudo wants a password"),
            ("nobody", None, "may not use sudo: one is not in the sudoers file."),
            ("nobody", Secret("geheim"), "may not use sudo"),
        ],
    )
    def test_refused(
        self, sudoers: Sshd, program: Program, how: str, password: Secret | None, said: str
    ) -> None:
        self.how(sudoers, how)
        error = failure(program, sudoers.host(become=True, become_password=password))
        assert error.step == "sudo"
        assert said in error.message

    def test_no_sudo_there(self, sudoers: Sshd, program: Program) -> None:
        (sudoers.folder.parent / "bin/sudo").unlink()
        if shutil.which("sudo") is None:
            error = failure(program, sudoers.host(become=True))
            assert "there is no sudo on the host" in error.message


class TestJumps:
    @pytest.fixture
    def jump(self, tmp_path: Path) -> Iterator[Sshd]:
        jump = Sshd(tmp_path / "jump").start()
        jump.know()
        yield jump
        jump.stop()

    def test_through_two(self, server: Sshd, jump: Sshd, program: Program) -> None:
        outer = jump.connection()
        host = server.host(proxy=replace(jump.connection(), user=jump.user, proxy=outer))
        with connect(program, host) as connections:
            connections.session(host).ask({"op": "x"})

    def test_is_opened_once_for_many_hosts(self, server: Sshd, jump: Sshd, program: Program) -> None:
        hosts = [server.host(f"h{number}", proxy=jump.connection()) for number in range(8)]
        with connect(program, *hosts) as connections:
            outcome = connections.each(hosts, lambda session: session.ask({"op": "x"})["uid"])
        assert set(outcome.values()) == {0}
        assert (jump.folder / "log").read_text().count("Accepted publickey") == 1

    def test_that_is_not_known(self, server: Sshd, jump: Sshd, program: Program) -> None:
        (jump.folder / "known_hosts").write_text("")
        error = failure(program, server.host(proxy=jump.connection()))
        assert error.step == "host key"
        assert error.message.startswith("jump host 127.0.0.1: ")

    def test_that_is_dead(self, server: Sshd, jump: Sshd, program: Program) -> None:
        error = failure(program, server.host(proxy=jump.connection(port=real.free_port())))
        assert isinstance(error, UnreachableError)
        assert "jump host" in error.message

    def test_that_cannot_reach_the_host(self, server: Sshd, jump: Sshd, program: Program) -> None:
        error = failure(program, server.host(port=real.free_port(), proxy=jump.connection()))
        assert isinstance(error, UnreachableError)
        assert "cannot reach" in error.message

    def test_that_forbids_forwarding(self, server: Sshd, tmp_path: Path, program: Program) -> None:
        strict = Sshd(tmp_path / "strict", options=("AllowTcpForwarding no",)).start()
        try:
            strict.know()
            error = failure(program, server.host(proxy=strict.connection()))
            assert "forbids forwarding" in error.message
        finally:
            strict.stop()
