"""What passes through the gateway and what must not: headers, credentials, environment, hosts and origins."""

import json
from contextlib import ExitStack

import pytest

from support import raw
from support.clients import CLIENTS
from support.fixture import fixture
from support.gateway import Gateway

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def guarded(folder):
    """A gateway before two upstreams, each with a credential of its own."""
    place = folder / "wire"
    with ExitStack() as stack:
        first = stack.enter_context(fixture(place / "first.log", "--modern-only"))
        second = stack.enter_context(fixture(place / "second.log", "--legacy-only"))
        tables = {
            "first": {"url": first, "auth": {"token": "token-of-the-first"}},
            "second": {"url": second, "auth": {"type": "header", "name": "X-Api-Key", "value": "key-of-the-second"}},
        }
        gateway = Gateway(tables, place / "gateway")
        stack.callback(gateway.stop)
        gateway.settled()
        yield gateway


def seen(gateway, upstream, **headers) -> dict:
    return json.loads(raw.text_of(raw.call(gateway.url, f"{upstream}__seen_headers", {}, **headers)))


def test_each_upstream_gets_its_own_credential_and_no_other(guarded):
    first, second = seen(guarded, "first"), seen(guarded, "second")
    assert first["authorization"] == "Bearer token-of-the-first"
    assert second["x-api-key"] == "key-of-the-second"
    assert "key-of-the-second" not in json.dumps(first)
    assert "token-of-the-first" not in json.dumps(second)


@pytest.mark.parametrize("upstream", ["first", "second"])
def test_nothing_of_the_callers_own_headers_goes_up(guarded, upstream):
    private = dict.fromkeys(("Authorization", "Cookie", "X_Api_Key", "X_Forwarded_For", "X_Own"), "of-the-caller")
    headers = seen(guarded, upstream, **private)
    assert "of-the-caller" not in json.dumps(headers)
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.name.startswith("rmcp")], ids=lambda client: client.name)
def test_arguments_are_mirrored_into_headers_for_a_modern_upstream(guarded, client):
    steps = {"calls": [{"name": "first__test_custom_headers", "arguments": {"region": "eu-west", "priority": 7, "note": "plain"}}]}
    (answer,) = client.run([guarded.url], steps)["calls"]
    assert "failed" not in answer, answer
    headers = json.loads(answer["text"])["headers"]
    assert (headers["mcp-param-region"], headers["mcp-param-priority"]) == ("eu-west", "7")
    assert (headers["mcp-name"], headers["mcp-method"]) == ("test_custom_headers", "tools/call")


def test_a_child_sees_neither_our_environment_nor_another_upstreams(gateway):
    gateway.settled()
    environment = raw.text_of(raw.call(gateway.url, "everything_stdio__get-env", {}))
    assert "canary-of-the-gateway" not in environment
    assert "PATH" in environment


@pytest.mark.parametrize(("header", "value"), [("Host", "evil.example"), ("Origin", "http://evil.example")])
def test_a_foreign_host_or_origin_is_refused(guarded, header, value):
    status, _, _ = raw.post(guarded.url, {"jsonrpc": "2.0", "id": 1, "method": "ping"}, **{header: value})
    assert status == 403


@pytest.mark.parametrize("body", ["{", "[]", "null", '{"jsonrpc":"2.0"}', "\x00", '{"jsonrpc":"2.0","id":{},"method":"ping"}'])
def test_a_malformed_body_gets_a_json_rpc_error_and_the_gateway_lives(guarded, body):
    status, _, text = raw.post(guarded.url, body)
    assert 400 <= status < 500, text
    assert "error" in json.loads(text), text
    assert raw.text_of(raw.call(guarded.url, "first__echo", {"text": "alive"})) == "alive"


def test_a_hidden_meaning_by_a_repeated_key_is_refused(guarded):
    body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"first__echo","na\\u006de":"second__echo","arguments":{}}}'
    _, _, text = raw.post(guarded.url, body)
    assert json.loads(text)["error"]["code"] == -32600
