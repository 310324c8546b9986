"""Runs a plan with the client of fastmcp, which finds out the era by itself."""

import asyncio

import plan
from fastmcp import Client
from fastmcp.client.transports import StdioTransport


async def main():
    mode, target, steps = plan.read()
    assert mode == "auto", f"fastmcp has no mode {mode}"
    first, *rest = target
    async with Client(first if first.startswith("http") else StdioTransport(first, rest)) as client:
        tools = await client.list_tools()
        resources = await client.list_resources()
        prompts = await client.list_prompts()
        calls = [
            await plan.attempt(client.call_tool(step["name"], step.get("arguments", {}), raise_on_error=False), plan.called)
            for step in steps.get("calls", [])
        ]
        reads = [await plan.attempt(client.read_resource(uri), plan.read_contents) for uri in steps.get("resources", [])]
        gets = [
            await plan.attempt(client.get_prompt(step["name"], step.get("arguments", {})), plan.got) for step in steps.get("prompts", [])
        ]
        plan.report(
            protocol=None,
            tools=[tool.name for tool in tools],
            resources=[str(resource.uri) for resource in resources],
            prompts=[prompt.name for prompt in prompts],
            calls=calls,
            reads=reads,
            gets=gets,
        )


asyncio.run(main())
