"""Servers that ask in the middle of a call, and clients of the other era that answer."""

import pytest

from support.clients import CLIENTS

pytestmark = pytest.mark.gateway

# Those of 2026-07-28 whose programs answer questions.
ASKED = [client for client in CLIENTS if client.name in ("ts-client-2.4-pinned", "ts-client-2.4-auto", "py-mcp-2.3-pinned", "py-mcp-2.3-auto")]


@pytest.mark.parametrize("client", ASKED, ids=lambda client: client.name)
def test_a_server_of_the_earlier_revisions_gets_its_answers(client, gateway):
    gateway.settled()
    calls = [
        {"name": "python_old__travel", "arguments": {"times": 1}},
        {"name": "python_old__travel", "arguments": {"times": 3}},
        {"name": "rmcp_legacy__test_input_required_result_elicitation", "arguments": {}},
        {"name": "rmcp_legacy__test_input_required_result_multi_round", "arguments": {}},
    ]
    outcome = client.run([gateway.url], {"calls": calls, "answer": {"city": "Delft", "name": "Ada", "ok": True, "color": "blue"}})
    assert outcome["protocol"] == "2026-07-28"
    once, thrice, name, rounds = outcome["calls"]
    assert (once["text"], thrice["text"]) == ("Delft", "Delft Delft Delft"), outcome["calls"]
    assert not name["error"] and "Ada" in name["text"], name
    assert not rounds.get("error", True), rounds


@pytest.mark.parametrize("client", ASKED, ids=lambda client: client.name)
def test_a_client_that_declares_nothing_is_not_asked(client, gateway):
    gateway.settled()
    outcome = client.run([gateway.url], {"calls": [{"name": "python_old__travel", "arguments": {"times": 1}}]})
    answer = outcome["calls"][0]
    assert "failed" in answer or answer["error"], answer
