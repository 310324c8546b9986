"""Every client meets every upstream: it lists, calls, reads and gets, and the answers are those of the upstream."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest

from support.clients import CLIENTS, SSE_CLIENTS, Client
from support.gateway import Gateway
from support.upstreams import Upstream, Upstreams


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


# The eras that a server speaks → one that does. The clients of the other era alone would meet nothing there.
ALONE = {"legacy-only": "rmcp_legacy", "both-eras": "ts_new", "modern-only": "rmcp_modern"}
EVERY = "every"


def meets(client: Client, upstream: Upstream) -> bool:
    """Whether the two understand each other without a gateway."""
    if upstream.direct is None or upstream.name in client.unmet or not client.eras & upstream.eras:
        return False
    if client.sse != upstream.direct[0].endswith("/sse"):
        return False
    if client.via and not upstream.direct[0].startswith("http:"):
        return False
    return client.https or not upstream.direct[0].startswith("https:")


def expected(client: Client, upstreams: Upstreams, kind: str) -> list:
    """The upstreams that the client meets, with one call each when every request costs it a process."""
    met = upstreams.all if kind == EVERY else [upstreams.named(ALONE[kind])]
    return [replace(upstream, calls=upstream.calls[:1], reads=[], gets=[]) for upstream in met] if client.slow else met


@pytest.fixture(scope="module")
def alone(folder, upstreams):
    """A transparent gateway in front of a single upstream of each kind."""
    with ExitStack() as stack:
        gateways = {}
        for kind, name in ALONE.items():
            table = upstreams.named(name).table | {"prefix": ""}
            gateways[kind] = Gateway({name: table}, folder / f"alone-{kind}")
            stack.callback(gateways[kind].stop)
        yield gateways


@pytest.fixture(scope="module")
def played(request, upstreams, gateway, alone):
    """(client, kind) → what the client got. Those of the chosen tests run here, three at a time."""
    gateways = {EVERY: gateway, **alone}
    for one in gateways.values():
        one.settled()
    with ThreadPoolExecutor(3) as pool:
        runs = {}
        for item in request.session.items:
            chosen = item.callspec.params if item.path == request.path and hasattr(item, "callspec") else {}
            if client := chosen.get("client"):
                kind = chosen.get("kind", EVERY)
                steps = steps_for(expected(client, upstreams, kind), prefixed=kind == EVERY)
                url = gateways[kind].sse_url if client.sse else gateways[kind].url
                runs[client.name, kind] = pool.submit(client.run, [url], steps)
        yield lambda client, kind: runs[client.name, kind].result()


def judge(client: Client, kind: str, upstreams: Upstreams, outcome: dict):
    met = expected(client, upstreams, kind)
    assert problems(outcome, steps_for(met, prefixed=kind == EVERY), met) == []
    if outcome.get("protocol"):
        assert (outcome["protocol"] == "2026-07-28") == (client.mode != "legacy"), "the client's own era holds downstream"


@pytest.mark.parametrize("client", CLIENTS + SSE_CLIENTS, ids=lambda client: client.name)
def test_a_client_lists_and_calls_every_upstream(client, request, upstreams, direct):
    if not direct:
        judge(client, EVERY, upstreams, request.getfixturevalue("played")(client, EVERY))
        return
    for upstream in upstreams.all:
        if meets(client, upstream):
            steps = steps_for([upstream], prefixed=False)
            ca = upstreams.authority.certificate if upstream.direct[0].startswith("https:") else None
            outcome = client.run(upstream.direct, steps, ca=ca)
            assert problems(outcome, steps, [upstream]) == [], upstream.name


@pytest.mark.gateway
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
@pytest.mark.parametrize("kind", ALONE)
def test_a_client_meets_a_single_upstream_of_any_era(client, kind, upstreams, played):
    judge(client, kind, upstreams, played(client, kind))


@pytest.mark.gateway
def test_every_upstream_comes_up(gateway):
    # Several of these servers list the same resource URIs: the first in the file has them, the others are told.
    serves = lambda state, rest: state == "up" or (state == "degraded" and "name_collision" in rest)
    assert {name: line for name, line in gateway.settled().items() if not serves(*line)} == {}


@pytest.mark.gateway
@pytest.mark.parametrize("name", ["ts-sdk-1.32", "ts-client-2.4-pinned"])
def test_a_client_meets_an_upstream_over_http_and_sse(name, folder, upstreams):
    (client,) = (client for client in CLIENTS if client.name == name)
    upstream = upstreams.everything_sse()
    steps = steps_for([upstream], prefixed=True)
    gateway = Gateway({upstream.name: upstream.table}, folder / f"sse-{name}")
    try:
        gateway.settled()
        assert problems(client.run([gateway.url], steps), steps, [upstream]) == []
    finally:
        gateway.stop()
