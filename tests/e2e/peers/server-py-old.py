"""A server on the Python SDK 1.x, which knows only the revisions with sessions: PORT [sse]."""

import asyncio
import sys

from mcp.server.fastmcp import Context, FastMCP

server = FastMCP("old", host="127.0.0.1", port=int(sys.argv[1]))


@server.tool()
def double(number: int) -> int:
    """Doubles a number."""
    return number * 2


@server.tool()
async def chatty(ctx: Context) -> str:
    """Logs and reports its progress on the stream of its call, before it answers."""
    await ctx.info("on my way")
    await ctx.report_progress(1, 2, "half")
    return "there"


@server.tool()
async def linger(text: str) -> str:
    """Returns the text after a while."""
    await asyncio.sleep(0.3)
    return text


@server.prompt()
def farewell(name: str) -> str:
    """Says goodbye to somebody."""
    return f"Say goodbye to {name}."


server.run("sse" if sys.argv[2:] == ["sse"] else "streamable-http")
