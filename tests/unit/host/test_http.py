"""Whether somebody listens: for any address that an engine may have."""

from __future__ import annotations

import socket

import pytest

from flagprov.host.http import listens


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_closed_until_somebody_takes_connections(family: int, address: str) -> None:
    try:
        server = socket.create_server((address, 0), family=family, backlog=1)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    port = server.getsockname()[1]
    assert listens(address, port)
    server.close()
    assert not listens(address, port)


def test_a_name_that_leads_nowhere_is_no_error() -> None:
    assert not listens("name.invalid", 9010)
