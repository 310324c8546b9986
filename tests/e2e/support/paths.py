"""Where things are. Every path can be overridden from the environment, none is searched for."""

import os
from pathlib import Path

E2E = Path(__file__).resolve().parent.parent
ROOT = E2E.parent.parent
CACHE = E2E / ".cache"
PEERS = E2E / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"

NEXUS = Path(os.environ.get("NEXUS_BINARY", TARGET / "nexus"))
FIXTURE = Path(os.environ.get("NEXUS_FIXTURE", TARGET / "examples" / "fixture"))
NODE = CACHE / "node" / "node"
NODE_MODULES = CACHE / "npm" / "node_modules"
PYTHON_MODERN = CACHE / "python-modern" / "bin" / "python"
PYTHON_LEGACY = CACHE / "python-legacy" / "bin" / "python"
SSLYZE = CACHE / "python-sslyze" / "bin" / "sslyze"
EVERYTHING = NODE_MODULES / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
MCP_REMOTE = NODE_MODULES / "mcp-remote" / "dist" / "proxy.js"
