"""Every client meets every upstream: it lists, calls, reads and gets, and the answers are those of the upstream."""

import pytest

from support.clients import CLIENTS, SSE_CLIENTS, Client
from support.upstreams import Upstream


def steps_for(upstreams: list, prefixed: bool) -> dict:
    """One plan for all of them. Tools and prompts carry the upstream's name through the gateway, URIs never do."""
    name = (lambda upstream, plain: f"{upstream.name}__{plain}") if prefixed else (lambda _, plain: plain)
    return {
        "calls": [{"name": name(up, tool), "arguments": arguments} for up in upstreams for tool, arguments, _ in up.calls],
        "resources": [uri for up in upstreams for uri, _ in up.reads],
        "prompts": [{"name": name(up, prompt), "arguments": arguments} for up in upstreams for prompt, arguments, _ in up.gets],
    }


def problems(outcome: dict, steps: dict, upstreams: list) -> list:
    """Every answer that is not the upstream's, so that one run shows all of them."""
    found = []
    expected = [text for up in upstreams for _, _, text in up.calls]
    for step, answer, text in zip(steps["calls"], outcome["calls"], expected, strict=True):
        if step["name"] not in outcome["tools"]:
            found.append(f"tool {step['name']} is not listed")
        if "failed" in answer or answer["error"] or text not in answer["text"]:
            found.append(f"call {step['name']}: expected {text!r}, got {answer}")
    expected = [text for up in upstreams for _, text in up.reads]
    for uri, answer, text in zip(steps["resources"], outcome["reads"], expected, strict=True):
        if uri not in outcome["resources"]:
            found.append(f"resource {uri} is not listed")
        if "failed" in answer or text not in answer[0].get("text", ""):
            found.append(f"read {uri}: expected {text!r}, got {str(answer)[:300]}")
    expected = [text for up in upstreams for _, _, text in up.gets]
    for step, answer, text in zip(steps["prompts"], outcome["gets"], expected, strict=True):
        if step["name"] not in outcome["prompts"]:
            found.append(f"prompt {step['name']} is not listed")
        if "failed" in answer or text not in answer["text"]:
            found.append(f"prompt {step['name']}: expected {text!r}, got {answer}")
    return found


def meets(client: Client, upstream: Upstream) -> bool:
    """Whether the two understand each other without a gateway."""
    if upstream.direct is None or upstream.name in client.unmet or not client.eras & upstream.eras:
        return False
    if client.sse != upstream.direct[0].endswith("/sse"):
        return False
    return client.https or not upstream.direct[0].startswith("https:")


@pytest.mark.parametrize("client", CLIENTS + SSE_CLIENTS, ids=lambda client: client.name)
def test_a_client_lists_and_calls_every_upstream(client, upstreams, gateway, direct):
    if not direct:
        gateway.settled()
        steps = steps_for(upstreams.all, prefixed=True)
        outcome = client.run([gateway.sse_url if client.sse else gateway.url], steps)
        assert problems(outcome, steps, upstreams.all) == []
        if outcome["protocol"]:
            assert (outcome["protocol"] == "2026-07-28") == (client.mode != "legacy"), "the client's own era holds downstream"
        return
    for upstream in upstreams.all:
        if meets(client, upstream):
            steps = steps_for([upstream], prefixed=False)
            ca = upstreams.authority.certificate if upstream.direct[0].startswith("https:") else None
            outcome = client.run(upstream.direct, steps, ca=ca)
            assert problems(outcome, steps, [upstream]) == [], upstream.name


@pytest.mark.gateway
def test_every_upstream_comes_up(gateway):
    # Several of these servers list the same resource URIs: the first in the file has them, the others are told.
    serves = lambda state, rest: state == "up" or (state == "degraded" and "name_collision" in rest)
    assert {name: line for name, line in gateway.settled().items() if not serves(*line)} == {}
