"""A server on the Python SDK 2.x, which speaks both eras: PORT. nginx stands in front of it and terminates mutual TLS."""

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("inner")


@server.tool()
def shout(text: str) -> str:
    """Returns the text in capitals."""
    return text.upper()


@server.tool()
def peer(ctx: Context) -> str:
    """The subject of the client certificate, as nginx passes it on."""
    return ctx.request_context.request.headers.get("x-client-subject", "")


@server.tool()
async def linger(text: str) -> str:
    """Returns the text after a while."""
    await asyncio.sleep(0.3)
    return text


@server.resource("inner://motto", mime_type="text/plain")
def motto() -> str:
    """A motto."""
    return "behind mutual TLS"


server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
