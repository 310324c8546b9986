"""Many callers at once: equal request ids never mix up answers, whatever the eras on both sides."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from support import raw

pytestmark = pytest.mark.gateway

CALLERS, CLIENTS = 40, 10
# Upstream → a tool of it that says its text back, and its arguments. The first four take their time, so that all calls are
# open at once. The Python server behind nginx speaks both eras, each client's own.
ECHOES = {
    "rmcp_legacy": ("slow_compute", lambda words: {"label": words, "seconds": 0.3}),
    "rmcp_modern": ("slow_compute", lambda words: {"label": words, "seconds": 0.3}),
    "python_old": ("linger", lambda words: {"text": words}),
    "behind_nginx": ("linger", lambda words: {"text": words}),
    "everything_http": ("echo", lambda words: {"message": words}),
    "everything_stdio": ("echo", lambda words: {"message": words}),
    "ts_modern": ("echo", lambda words: {"text": words}),
}


def open_session(url: str) -> dict:
    """Initializes a session; returns the headers that belong to it."""
    status, headers, text = raw.post(url, raw.INITIALIZE)
    assert status == 200, text
    session = {name.lower(): value for name, value in headers.items()}["mcp-session-id"]
    own = {"Mcp_Session_Id": session, "MCP_Protocol_Version": raw.LEGACY}
    status, _, text = raw.post(url, raw.INITIALIZED, **own)
    assert status == 202, text
    return own


def say_in_session(url: str, session: dict, tool: str, arguments: dict, number) -> str:
    params = {"name": tool, "arguments": arguments}
    status, _, text = raw.post(url, {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}, **session)
    assert status == 200, text
    (reply,) = [message for message in map(json.loads, raw.messages_of(text)) if "method" not in message]
    assert reply["id"] == number and type(reply["id"]) is type(number)
    return raw.text_of(reply)


def say_without_session(url: str, _: None, tool: str, arguments: dict, number) -> str:
    return raw.text_of(raw.call(url, tool, arguments, number=number))


@pytest.mark.parametrize("upstream", ECHOES)
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_forty_calls_of_ten_clients_with_one_id_get_their_own_answers(gateway, era, upstream):
    gateway.settled()
    tool, arguments = ECHOES[upstream]
    say = say_in_session if era == "legacy" else say_without_session
    sessions = [open_session(gateway.url) if era == "legacy" else None for _ in range(CLIENTS)]
    ready = Barrier(CALLERS, timeout=30)

    def one(number: int) -> bool:
        words = f"<client {number % CLIENTS}, call {number // CLIENTS}>"
        ready.wait()
        return words in say(gateway.url, sessions[number % CLIENTS], f"{upstream}__{tool}", arguments(words), 1)

    with ThreadPoolExecutor(CALLERS) as pool:
        assert all(pool.map(one, range(CALLERS)))


def test_one_session_has_many_calls_in_flight_and_ids_keep_their_type(gateway):
    gateway.settled()
    session = open_session(gateway.url)

    def one(number: int) -> bool:
        words = f"call {number}"
        name = str(number) if number % 2 else number
        return say_in_session(gateway.url, session, "rmcp_legacy__echo", {"text": words}, name) == words

    with ThreadPoolExecutor(CALLERS) as pool:
        assert all(pool.map(one, range(CALLERS)))


def test_what_a_call_says_before_it_answers_comes_on_its_own_stream(gateway):
    gateway.settled()
    session = open_session(gateway.url)
    params = {"name": "python_old__chatty", "arguments": {}, "_meta": {"progressToken": "mine"}}
    _, _, text = raw.post(gateway.url, {"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": params}, **session)
    log, progress, answer = [json.loads(message) for message in raw.messages_of(text)]
    assert (log["method"], log["params"]["data"]) == ("notifications/message", "on my way")
    assert (progress["method"], progress["params"]["progressToken"]) == ("notifications/progress", "mine")
    assert (answer["id"], raw.text_of(answer)) == ("c", "there")


def test_a_session_that_never_was_gets_404(gateway):
    own = {"Mcp_Session_Id": "no-such-session", "MCP_Protocol_Version": raw.LEGACY}
    status, _, _ = raw.post(gateway.url, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, **own)
    assert status == 404
