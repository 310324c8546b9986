"""The OAuth flow of the Python client: `oauth-py.py URL TOOL`. Prints where it was led and the answer."""

import asyncio
import json
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

CALLBACK = "http://127.0.0.1:1/callback"


class Kept:
    """Everything that the client keeps."""

    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def browse(page: str) -> dict:
    """A browser: follows redirects with their cookies, until they lead to the client."""
    async with httpx2.AsyncClient(verify=ssl.create_default_context()) as browser:
        for _ in range(10):
            reply = await browser.get(page)
            assert "location" in reply.headers, f"{reply.status_code} at {page}: {reply.text[:2000]}"
            page = str(reply.url.join(reply.headers["location"]))
            if page.startswith(CALLBACK):
                return {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
    raise AssertionError("too many redirects")


async def main():
    url, tool = sys.argv[1:]
    kept, answer = Kept(), {}

    async def redirected(page):
        answer.update(await browse(page))

    async def called_back():
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))

    metadata = OAuthClientMetadata(client_name="py-peer", redirect_uris=[CALLBACK], token_endpoint_auth_method="none")
    provider = OAuthClientProvider(url, metadata, kept, redirected, called_back)
    async with httpx2.AsyncClient(auth=provider, verify=ssl.create_default_context(), timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), cache=None) as client:
            result = await client.call_tool(tool, {"text": "hello"})
    report = {"redirected": bool(answer), "scope": kept.tokens.scope, "result": result.model_dump(mode="json", by_alias=True)}
    print(json.dumps(report))


asyncio.run(main())
