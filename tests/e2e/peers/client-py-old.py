"""Runs a plan with the Python SDK 1.x, which knows only the revisions with sessions."""

import asyncio
from contextlib import AsyncExitStack

import plan
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent


async def elicit(_, params):
    return ElicitResult(action="accept", content=plan.filled(params.requestedSchema))


async def sample(_, params):
    said = TextContent(type="text", text=f"model: {params.messages[0].content.text}")
    return CreateMessageResult(role="assistant", content=said, model="none", stopReason="endTurn")


async def roots(_):
    return ListRootsResult(roots=[Root(uri="file:///peer", name="peer")])


async def main():
    mode, target, steps = plan.read()
    assert mode == "legacy", f"this SDK has no mode {mode}"
    first, *rest = target
    async with AsyncExitStack() as stack:
        if first.startswith("http"):
            receive, send, *_ = await stack.enter_async_context(streamable_http_client(first))
        else:
            receive, send = await stack.enter_async_context(stdio_client(StdioServerParameters(command=first, args=rest)))
        answers = {"elicitation_callback": elicit, "sampling_callback": sample, "list_roots_callback": roots}
        session = await stack.enter_async_context(ClientSession(receive, send, **(answers if steps.get("answers") else {})))
        hello = await session.initialize()
        page = {"cursor": str}
        tools = await plan.every(session.list_tools, "tools", **page)
        resources = await plan.every(session.list_resources, "resources", **page) if hello.capabilities.resources else []
        prompts = await plan.every(session.list_prompts, "prompts", **page) if hello.capabilities.prompts else []
        calls = [
            await plan.attempt(session.call_tool(step["name"], step.get("arguments", {})), plan.called) for step in steps.get("calls", [])
        ]
        reads = [await plan.attempt(session.read_resource(uri), plan.read_contents) for uri in steps.get("resources", [])]
        gets = [
            await plan.attempt(session.get_prompt(step["name"], step.get("arguments", {})), plan.got) for step in steps.get("prompts", [])
        ]
        plan.report(
            protocol=hello.protocolVersion,
            tools=[tool.name for tool in tools],
            resources=[str(resource.uri) for resource in resources],
            prompts=[prompt.name for prompt in prompts],
            calls=calls,
            reads=reads,
            gets=gets,
        )


asyncio.run(main())
