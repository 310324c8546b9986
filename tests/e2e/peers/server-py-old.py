"""A server on the Python SDK 1.x, which knows only the revisions with sessions: PORT [sse]."""

import asyncio
import sys

from mcp.server.fastmcp import Context, FastMCP
from pydantic import BaseModel

class Destination(BaseModel):
    city: str


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
async def travel(times: int, ctx: Context) -> str:
    """Asks where to, so many times."""
    cities = []
    for number in range(times):
        answer = await ctx.elicit(f"Where to, number {number}?", Destination)
        cities.append(answer.data.city if answer.action == "accept" else answer.action)
    return " ".join(cities)


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
