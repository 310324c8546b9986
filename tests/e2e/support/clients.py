"""The clients, each a program with one contract: a plan of calls in, one JSON object out."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass

from .paths import FIXTURE, MCP_REMOTE, NODE, NODE_MODULES, PEERS, PYTHON_LEGACY, PYTHON_MODERN


@dataclass(frozen=True)
class Client:
    """`eras` are those it can meet in this mode without a gateway."""

    name: str
    program: tuple
    mode: str
    eras: frozenset
    https: bool = True
    # Upstreams of its eras that it does not get along with directly, though it does through the gateway.
    unmet: frozenset = frozenset()
    # A command that the client launches, with the URL in the place of None: a proxy of another project.
    via: tuple = ()
    # One process for each request, so that it gets a short plan.
    slow: bool = False

    def run(self, target: list, steps: dict, ca=None, seconds: float = 120) -> dict:
        """Runs the plan; anything but a report is a failure that carries the client's stderr."""
        if self.via:
            (url,) = target
            target = [url if word is None else word for word in self.via]
        words = [*self.program, "--mode", self.mode, "--plan", json.dumps(steps), "--", *target]
        environment = {**os.environ, "PEER_MODULES": str(NODE_MODULES)}
        if ca:
            environment |= {"NODE_EXTRA_CA_CERTS": str(ca), "SSL_CERT_FILE": str(ca)}
        words = [str(word) for word in words]
        with tempfile.TemporaryDirectory(prefix="nexus-client-") as home:
            # Some keep files there.
            environment["HOME"] = home
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, env=environment, check=False
            )
        assert done.returncode == 0 and done.stdout, f"{self.name} ended with {done.returncode}:\n{done.stderr[-6000:]}"
        return json.loads(done.stdout.splitlines()[-1])


BOTH, LEGACY, MODERN = frozenset({"legacy", "modern"}), frozenset({"legacy"}), frozenset({"modern"})
TS_OLD, TS_NEW = (NODE, PEERS / "client-ts-old.mjs"), (NODE, PEERS / "client-ts-new.mjs")
PY_OLD, PY_NEW = (PYTHON_LEGACY, PEERS / "client-py-old.py"), (PYTHON_MODERN, PEERS / "client-py-new.py")
RMCP = (FIXTURE, "client")
INSPECTOR = (NODE, PEERS / "client-inspector.mjs")
REMOTE = (NODE, MCP_REMOTE, None, "--transport", "http-only", "--protocol")

CLIENTS = (
    Client("ts-sdk-1.32", TS_OLD, "legacy", LEGACY),
    Client("ts-client-2.4-legacy", TS_NEW, "legacy", LEGACY),
    Client("ts-client-2.4-auto", TS_NEW, "auto", BOTH),
    Client("ts-client-2.4-pinned", TS_NEW, "modern", MODERN),
    Client("py-mcp-1.30", PY_OLD, "legacy", LEGACY),
    Client("py-mcp-2.3-legacy", PY_NEW, "legacy", LEGACY),
    Client("py-mcp-2.3-auto", PY_NEW, "auto", BOTH),
    Client("py-mcp-2.3-pinned", PY_NEW, "modern", MODERN),
    Client("fastmcp-4.1", (PYTHON_MODERN, PEERS / "client-fastmcp.py"), "auto", BOTH),
    Client("rmcp-3.9-legacy", RMCP, "legacy", LEGACY, https=False),
    # It does not fall back from -32022, with which its own SDK's sessions-only server answers the probe.
    Client("rmcp-3.9-auto", RMCP, "auto", BOTH, https=False, unmet=frozenset({"rmcp_legacy"})),
    Client("rmcp-3.9-modern", RMCP, "modern", MODERN, https=False),
    Client("inspector-2.12-legacy", INSPECTOR, "legacy", LEGACY, slow=True),
    Client("inspector-2.12-auto", INSPECTOR, "auto", BOTH, slow=True),
    Client("inspector-2.12-modern", INSPECTOR, "modern", MODERN, slow=True),
    Client("mcp-remote-0.15-legacy", TS_OLD, "legacy", LEGACY, https=False, via=(*REMOTE, "legacy")),
    Client("mcp-remote-0.15-auto", TS_NEW, "modern", MODERN, https=False, via=(*REMOTE, "auto")),
)
