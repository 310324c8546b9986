"""`nexus stdio`: clients that launch a process get the same tools, and nothing is left behind when they go."""

import json
import subprocess

import pytest
from test_clients import problems, steps_for

from support import raw
from support.clients import CLIENTS
from support.gateway import configuration
from support.paths import FIXTURE, NEXUS
from support.processes import alive, descendants, eventually

pytestmark = pytest.mark.gateway

LAUNCHERS = ("ts-sdk-1.32", "ts-client-2.4-auto", "py-mcp-1.30", "py-mcp-2.3-auto", "py-mcp-2.3-pinned", "rmcp-3.9-legacy")


@pytest.fixture(scope="module")
def config(folder, upstreams):
    path = folder / "stdio.toml"
    path.write_text(configuration({upstream.name: upstream.table for upstream in upstreams.all}))
    return path


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.name in LAUNCHERS], ids=lambda client: client.name)
def test_a_client_that_launches_nexus_meets_every_upstream(client, config, upstreams):
    steps = steps_for(upstreams.all, prefixed=True)
    outcome = client.run([NEXUS, "--config", config, "stdio"], steps)
    assert problems(outcome, steps, upstreams.all) == []


def test_the_end_of_stdin_ends_the_whole_process_tree(folder):
    config = folder / "tree.toml"
    config.write_text(configuration({"child": {"cmd": [str(FIXTURE), "--stdio"]}}))
    messages = [raw.INITIALIZE, raw.INITIALIZED, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}]
    command = [str(NEXUS), "--config", str(config), "stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as nexus:
        try:
            nexus.stdin.writelines(json.dumps(message) + "\n" for message in messages)
            nexus.stdin.flush()
            # A notification may come in between: the child's tools are new to the gateway, too.
            answer = next(message for message in map(json.loads, nexus.stdout) if message.get("id") == 2)
            assert "child__echo" in json.dumps(answer), answer
            children = descendants(nexus.pid)
            assert children
            nexus.stdin.close()
            assert nexus.wait(10) == 0
            assert eventually(lambda: not any(alive(pid) for pid in children), 5), "a child outlived the gateway"
        finally:
            nexus.kill()


def test_a_bad_file_is_answered_in_the_first_reply(folder):
    config = folder / "bad.toml"
    config.write_text("[mcp.servers.x]\nurrl = 1\n")
    hello = json.dumps(raw.INITIALIZE) + "\n"
    command = [str(NEXUS), "--config", str(config), "stdio"]
    done = subprocess.run(command, input=hello, capture_output=True, text=True, timeout=20, check=False)
    assert "configuration" in json.loads(done.stdout)["error"]["message"], done
    assert "urrl" in done.stderr
