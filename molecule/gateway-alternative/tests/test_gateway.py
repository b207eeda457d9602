"""A gateway with TLS and API keys, beside an HAProxy that is not ours."""

from __future__ import annotations

from typing import Any

ASK = """python3 -c '
import ssl, sys, urllib.error, urllib.request
trusted = ssl.create_default_context(cadata=open("/etc/flagprov-gateway/tls.pem").read())
request = urllib.request.Request(sys.argv[1], headers={"Authorization": sys.argv[2]} if sys.argv[2] else {})
try:
    answer = urllib.request.urlopen(request, context=trusted)
except urllib.error.HTTPError as refused:
    answer = refused
print(answer.status)' %s %s"""


def ask(host: Any, authorization: str, path: str = "/v1/models") -> int:
    return int(host.check_output(ASK, f"https://127.0.0.1:8443{path}", authorization))


def test_only_those_with_a_key_are_served(host: Any) -> None:
    assert ask(host, "") == 401
    assert ask(host, "Bearer wrong") == 401
    assert ask(host, "Basic first-s3cret") == 401
    assert ask(host, "Bearer first-s3cret") == 503  # no release yet
    assert ask(host, "bearer second-s3cret") == 503


def test_health_asks_for_no_key(host: Any) -> None:
    assert ask(host, "", "/health") == 200


def test_secrets_are_roots_alone(host: Any) -> None:
    for name in ("api-keys", "tls.pem"):
        file = host.file(f"/etc/flagprov-gateway/{name}")
        assert (file.user, file.mode) == ("root", 0o600)
    everywhere = host.check_output(
        "cat /etc/flagprov-gateway/haproxy.cfg; ps axww; journalctl -u flagprov-gateway --no-pager"
    )
    assert "s3cret" not in everywhere


def test_the_other_haproxy_is_as_it_was(host: Any) -> None:
    assert host.service("haproxy").is_running
    assert host.service("haproxy").is_enabled
    got = host.check_output(
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8080/\").read())'"
    )
    assert "foreign" in got
