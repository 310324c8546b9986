"""The gateway under test: writes its file, starts it, and reads what it says about its upstreams."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

from .paths import NEXUS
from .processes import Process

LISTENING = re.compile(r"listening on (https?://[^\s/]+)(/\S*)?")
# `upstream crm: up · 12 tools · …` and `upstream crm: down · tls_expired · …`
STATE = re.compile(r"upstream [\"'`]?(?P<name>[\w.-]+)[\"'`]?:? +(?P<state>up|degraded|down|waiting)\b(?P<rest>.*)")


class Gateway:
    """A running gateway with the given upstreams: name → table of `[mcp.servers.NAME]`.

    `tls` is its own `[server.tls]`, and `trust` the context of a client that may connect then. `mcp`: the keys of `[mcp]`;
    `storage`: those of `[server.rate_limits.storage]`. `tables` are further ones as TOML, and `port` one that must be known
    before it starts.
    """

    def __init__(
        self,
        upstreams: dict,
        folder: Path,
        tls: dict | None = None,
        trust=None,
        mcp: dict | None = None,
        storage: dict | None = None,
        tables: str = "",
        port: int = 0,
        **environment: str,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "nexus.toml"
        self.config.write_text(configuration(upstreams, tls, mcp, port, storage) + tables)
        self.trust = trust
        self.process = Process([NEXUS, "--config", self.config, "serve"], folder / "nexus.log", **environment)
        self.names = list(upstreams)
        try:
            base, path = self.process.until(self._address, 10, "said where it listens")
            self.base = base
            self.url = base + (path or "/mcp")
            self.sse_url = base + "/sse"
            self.process.until(self._healthy, 10, "was healthy")
        except BaseException:
            self.process.stop()
            raise

    def _address(self):
        found = LISTENING.search(self.process.output())
        return found and found.groups()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base}/health", timeout=2, context=self.trust) as reply:
                return json.load(reply).get("status") == "healthy"
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def states(self) -> dict:
        """Upstream → (state, the rest of its newest line)."""
        found = {}
        for line in self.process.output().splitlines():
            if match := STATE.search(line):
                found[match["name"]] = (match["state"], match["rest"])
        return found

    def settled(self, seconds: float = 60) -> dict:
        """Waits until every upstream has a state, and returns them."""

        def all_there():
            states = self.states()
            return states if set(self.names) <= set(states) else None

        return self.process.until(all_there, seconds, "had a state for each upstream")

    def stop(self) -> int:
        return self.process.stop()


def configuration(
    upstreams: dict, tls: dict | None = None, mcp: dict | None = None, port: int = 0, storage: dict | None = None
) -> str:
    """The file as TOML."""
    lines = ["[server]", f'listen_address = "127.0.0.1:{port}"', ""]
    if tls:
        lines += ["[server.tls]", *(f"{key} = {literal(value)}" for key, value in tls.items()), ""]
    if storage:
        lines += ["[server.rate_limits.storage]", *(f"{key} = {literal(value)}" for key, value in storage.items()), ""]
    lines += ["[mcp]", 'sse_path = "/sse"', *(f"{key} = {literal(value)}" for key, value in (mcp or {}).items()), ""]
    for name, table in upstreams.items():
        lines.append(f"[mcp.servers.{name}]")
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        lines += [f"{key} = {literal(value)}" for key, value in table.items() if key not in tables]
        for key, entries in tables.items():
            lines += ["", f"[mcp.servers.{name}.{key}]"]
            lines += [f"{inner} = {literal(value)}" for inner, value in entries.items()]
        lines.append("")
    return "\n".join(lines)


def literal(value) -> str:
    """A TOML value. JSON strings, numbers, booleans and arrays of them are TOML too."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
