"""`search` and `execute`, as real clients see them: two tools, and everything behind them."""

import json
from contextlib import ExitStack

import pytest

from support.clients import CLIENTS
from support.fixture import fixture
from support.gateway import Gateway

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def searched(folder):
    """A gateway that lists the two tools only, before a server of each era."""
    place = folder / "search"
    with ExitStack() as stack:
        new = stack.enter_context(fixture(place / "new.log", "--modern-only"))
        old = stack.enter_context(fixture(place / "old.log", "--legacy-only"))
        gateway = Gateway({"new": {"url": new}, "old": {"url": old}}, place / "gateway", mcp={"tools": "search"})
        stack.callback(gateway.stop)
        gateway.settled()
        yield gateway


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_finds_a_tool_and_runs_it(searched, client):
    inner = [{"name": f"{upstream}__test_simple_text", "arguments": {}} for upstream in ("new", "old")]
    calls = [{"name": "search", "arguments": {"keywords": ["simple", "text"]}}]
    calls += [{"name": "execute", "arguments": call} for call in inner]
    calls.append({"name": "execute", "arguments": {"name": "nobody__has_it", "arguments": {}}})
    outcome = client.run([searched.url], {"calls": calls})
    assert outcome["tools"] == ["search", "execute"]
    found, *executed, unknown = outcome["calls"]
    names = [result["name"] for result in found["structured"]["results"]]
    assert 2 <= len(names) <= 10 and set(names[:2]) == {call["name"] for call in inner}, names
    assert json.dumps(found["text"]).count("input_schema") == len(names)
    for answer in executed:
        assert "failed" not in answer and not answer["error"], answer
        assert "simple text response" in answer["text"], answer
    assert "failed" in unknown, unknown
