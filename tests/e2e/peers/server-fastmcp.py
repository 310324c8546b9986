"""A fastmcp server on HTTPS: PORT CERTIFICATE KEY."""

import sys

from fastmcp import FastMCP

port, certificate, key = sys.argv[1:]
server = FastMCP("fast")


@server.tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.resource("fast://status", mime_type="text/plain")
def status() -> str:
    """How the server is."""
    return "all is well"


@server.prompt
def greeting(name: str) -> str:
    """Greets somebody."""
    return f"Say hello to {name}."


server.run(
    transport="http",
    host="127.0.0.1",
    port=int(port),
    show_banner=False,
    uvicorn_config={"ssl_certfile": certificate, "ssl_keyfile": key},
)
