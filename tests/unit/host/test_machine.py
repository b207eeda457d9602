"""Who listens here, as the kernel's tables have it."""

from __future__ import annotations

import os
import socket

import pytest

from flagprov.host.machine import holder, listening


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_taken_while_somebody_listens(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as taken:
        try:
            taken.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        port = taken.getsockname()[1]
        assert port not in listening()  # bound is not yet listened on
        taken.listen()
        assert port in listening()
        assert holder(port).endswith(f"(pid {os.getpid()})")
    assert port not in listening()
    assert holder(port) == ""
