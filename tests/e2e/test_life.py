"""Start and end of the process."""

import pytest

from support import raw
from support.fixture import fixture
from support.gateway import Gateway
from support.paths import FIXTURE
from support.processes import alive, eventually, free_port

pytestmark = pytest.mark.gateway


def test_sigterm_ends_with_zero_and_takes_the_children_along(folder):
    gateway = Gateway({"child": {"cmd": [str(FIXTURE), "--stdio"]}}, folder / "life")
    try:
        gateway.settled()
        assert raw.text_of(raw.call(gateway.url, "child__echo", {"text": "hi"})) == "hi"
        children = gateway.process.descendants()
        assert children
        gateway.process.child.terminate()
        assert gateway.process.child.wait(10) == 0, gateway.process.tail()
        assert eventually(lambda: not any(alive(pid) for pid in children), 5), "a child outlived the gateway"
    finally:
        gateway.stop()


def test_an_upstream_that_starts_late_comes_up_by_itself(folder):
    port = free_port()
    gateway = Gateway({"late": {"url": f"http://127.0.0.1:{port}/mcp"}}, folder / "late")
    try:
        assert gateway.settled()["late"][0] == "down"
        with fixture(folder / "late.log", "--port", str(port)):
            gateway.process.until(lambda: gateway.states()["late"][0] == "up", 40, "saw its upstream come up")
            assert raw.text_of(raw.call(gateway.url, "late__echo", {"text": "hi"})) == "hi"
    finally:
        gateway.stop()
