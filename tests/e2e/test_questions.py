"""A modern server needs something of a client that knows only the revisions with sessions."""

import pytest

from support.clients import CLIENTS
from support.paths import NEXUS

pytestmark = pytest.mark.gateway

OLD = [client for client in CLIENTS if client.name in ("ts-sdk-1.32", "py-mcp-1.30")]

# Tools of the modern fixture, their arguments, and what the client's own answers make of them.
CALLS = [
    ("test_elicitation", {"message": "who?"}, "peer"),
    ("test_sampling", {"prompt": "say it"}, "model: say it"),
    ("test_input_required_result_list_roots", {}, "file:///peer"),
    ("test_input_required_result_request_state", {}, "state-ok"),
    ("test_input_required_result_multiple_inputs", {}, "model: Generate a greeting"),
    ("test_input_required_result_multi_round", {}, "peer"),
    # Tasks, which the client has never heard of.
    ("confirm_delete", {"filename": "x"}, "x: deleted"),
    ("test_tool_with_task", {}, "Task for peer is done."),
]


@pytest.mark.parametrize("over", ["http", "stdio"])
@pytest.mark.parametrize("client", OLD, ids=lambda client: client.name)
def test_an_old_client_answers_what_a_new_server_asks(client, over, gateway):
    gateway.settled()
    target = [gateway.url] if over == "http" else [NEXUS, "--config", gateway.config, "stdio"]
    calls = [{"name": f"rmcp_modern__{tool}", "arguments": arguments} for tool, arguments, _ in CALLS]
    outcome = client.run(target, {"answers": True, "calls": calls})
    for (tool, _, expected), answer in zip(CALLS, outcome["calls"], strict=True):
        assert "failed" not in answer and expected in answer["text"], f"{tool}: {answer}"


@pytest.mark.parametrize("client", OLD, ids=lambda client: client.name)
def test_a_client_that_cannot_be_asked_gets_a_clear_error(client, gateway):
    gateway.settled()
    calls = [{"name": "rmcp_modern__test_elicitation", "arguments": {"message": "who?"}}]
    (answer,) = client.run([gateway.url], {"calls": calls})["calls"]
    assert "capability" in answer["failed"]["message"], answer
