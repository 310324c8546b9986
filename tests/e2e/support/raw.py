"""MCP by hand, for what no SDK lets a test do: foreign headers, wrong hosts, odd bodies."""

import http.client
import json
from urllib.parse import urlsplit

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "raw-peer", "version": "1.0.0"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def post(url: str, body, trust=None, **headers: str):
    """One POST, over HTTPS with `trust` as the client's context. Returns status, headers and body as text; header names are given with `_` for `-`."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=20, context=trust)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    try:
        connection.request("POST", parts.path, data, sent)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read().decode(errors="replace")
    finally:
        connection.close()


def call(url: str, tool: str, arguments: dict, trust=None, number="raw-1", **headers: str) -> dict:
    """A stateless tools/call with the id `number`. Returns the JSON-RPC reply."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "raw-peer", "version": "1.0.0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments, "_meta": meta}}
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": "tools/call", "Mcp_Name": tool} | headers
    status, _, text = post(url, body, trust, **headers)
    messages = [json.loads(message) for message in messages_of(text)]
    replies = [message for message in messages if message.get("id") == number and "method" not in message]
    assert len(replies) == 1, f"HTTP {status}: {text}"
    return replies[0]


def messages_of(text: str) -> list:
    """The JSON messages of a body, which is one message or an event stream."""
    if text.startswith("{"):
        return [text]
    return [line[5:].strip() for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]


def text_of(reply: dict) -> str:
    """The text of a tool's result."""
    assert "result" in reply, reply
    return "\n".join(block["text"] for block in reply["result"]["content"] if block["type"] == "text")
