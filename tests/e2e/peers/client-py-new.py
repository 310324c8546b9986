"""Runs a plan with the Python SDK 2.x: legacy, auto, or 2026-07-28 only."""

import asyncio

import plan
from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult


async def main():
    mode, target, steps = plan.read()
    first, *rest = target
    server = first if first.startswith("http") else StdioServerParameters(command=first, args=rest)
    answer = steps.get("answer")

    async def elicited(_context, _params):
        return ElicitResult(action="accept", content=answer)

    asked = elicited if answer else None
    async with Client(server, mode="2026-07-28" if mode == "modern" else mode, cache=None, elicitation_callback=asked) as client:
        # A pinned client has not asked the server what it has.
        pinned, capabilities = mode == "modern", client.server_capabilities
        page = {"cursor": str}
        tools = await plan.every(client.list_tools, "tools", **page)
        resources = await plan.every(client.list_resources, "resources", **page) if pinned or capabilities.resources else []
        prompts = await plan.every(client.list_prompts, "prompts", **page) if pinned or capabilities.prompts else []
        calls = [
            await plan.attempt(client.call_tool(step["name"], step.get("arguments", {})), plan.called) for step in steps.get("calls", [])
        ]
        reads = [await plan.attempt(client.read_resource(uri), plan.read_contents) for uri in steps.get("resources", [])]
        gets = [
            await plan.attempt(client.get_prompt(step["name"], step.get("arguments", {})), plan.got) for step in steps.get("prompts", [])
        ]
        plan.report(
            protocol=client.protocol_version,
            tools=[tool.name for tool in tools],
            resources=[resource.uri for resource in resources],
            prompts=[prompt.name for prompt in prompts],
            calls=calls,
            reads=reads,
            gets=gets,
        )


asyncio.run(main())
