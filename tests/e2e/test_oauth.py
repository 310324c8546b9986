"""Clients that nobody here wrote get a token of an identity provider that nobody here wrote, led there by the gateway alone."""

import json
import os
import subprocess

import pytest

from support import raw
from support.certificates import Authority
from support.fixture import fixture
from support.gateway import Gateway
from support.paths import NODE, NODE_MODULES, PEERS, PYTHON_MODERN
from support.processes import free_port, running

pytestmark = pytest.mark.gateway

CLIENTS = {
    "ts-client-2.4": (NODE, PEERS / "oauth-ts.mjs", "new"),
    "ts-sdk-1.32": (NODE, PEERS / "oauth-ts.mjs", "old"),
    "py-mcp-2.3": (PYTHON_MODERN, PEERS / "oauth-py.py"),
}


@pytest.fixture(scope="module")
def guarded(folder):
    """A gateway that validates the provider's tokens, and the provider's CA."""
    folder = folder / "oauth"
    ca = Authority(folder, "idp-ca")
    identity = ca.server("idp")
    port, own_port = free_port(), free_port()
    resource = f"http://127.0.0.1:{own_port}/mcp"
    tables = f"""
[server.oauth]
url = "https://localhost:{port}/jwks"
expected_issuer = "https://localhost:{port}"
expected_audience = "{resource}"
required_scopes = ["mcp:call"]
tls = {{ root_ca_cert_path = "{ca.certificate}" }}
[server.oauth.protected_resource]
resource = "{resource}"
authorization_servers = ["https://localhost:{port}"]
scopes_supported = ["mcp:call"]
"""
    command = [NODE, PEERS / "idp.mjs", port, identity.certificate, identity.key, resource]
    with running(command, folder / "idp.log", PEER_MODULES=str(NODE_MODULES)) as idp, fixture(folder / "fixture.log") as upstream:
        idp.until(lambda: "ready" in idp.output(), 20, "listened")
        nexus = Gateway({"box": {"url": upstream}}, folder / "gateway", tables=tables, port=own_port)
        nexus.settled()
        yield nexus, ca
        nexus.stop()


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_finds_its_way_from_the_challenge_to_the_answer(guarded, name):
    nexus, ca = guarded
    environment = {**os.environ, "PEER_MODULES": str(NODE_MODULES), "NODE_EXTRA_CA_CERTS": str(ca.certificate), "SSL_CERT_FILE": str(ca.certificate)}
    words = [str(word) for word in (*CLIENTS[name], nexus.url, "box__echo")]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0 and done.stdout, f"{name} ended with {done.returncode}:\n{done.stderr[-6000:]}"
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["redirected"] and "mcp:call" in report["scope"].split(), report
    assert report["result"]["content"][0]["text"] == "hello", report


def test_without_a_token_nothing_is_told_but_where_to_get_one(guarded):
    nexus, _ = guarded
    for headers in ({}, {"Authorization": "Bearer a.b.c"}):
        status, found, body = raw.post(nexus.url, raw.INITIALIZE, **headers)
        assert status == 401 and "resource_metadata=" in found.get("www-authenticate", ""), found
        assert "echo" not in body
