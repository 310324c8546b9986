"""Starts what the tests share, once per session, and keeps the logs when something failed."""

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from support.gateway import Gateway  # noqa: E402
from support.paths import NEXUS  # noqa: E402
from support.upstreams import Upstreams  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--direct", action="store_true", help="clients meet the upstreams without the gateway between them")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--direct"):
        for item in items:
            if item.get_closest_marker("gateway"):
                item.add_marker(pytest.mark.skip(reason="needs the gateway"))


@pytest.fixture(scope="session")
def direct(request) -> bool:
    return request.config.getoption("--direct")


@pytest.fixture(scope="session")
def folder(request):
    place = Path(tempfile.mkdtemp(prefix="nexus-e2e-"))
    yield place
    if request.session.testsfailed:
        print(f"\nlogs: {place}")
    else:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def upstreams(folder):
    """Every upstream, running."""
    with ExitStack() as stack:
        yield Upstreams(folder / "upstreams", stack)


@pytest.fixture(scope="session")
def gateway(folder, upstreams, direct):
    """One gateway in front of all of them; None when the clients go direct."""
    if direct:
        yield None
        return
    assert NEXUS.exists(), f"{NEXUS} does not exist; build it, or use --direct"
    tables = {upstream.name: upstream.table for upstream in upstreams.all}
    nexus = Gateway(tables, folder / "gateway", NEXUS_CANARY="canary-of-the-gateway")
    yield nexus
    nexus.stop()

