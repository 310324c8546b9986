"""What the Python clients share. The contract is that of `fixture client`: a plan in, one JSON object out."""

import argparse
import json


def read():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="legacy")
    parser.add_argument("--plan", default="{}")
    parser.add_argument("target", nargs="+")
    options = parser.parse_args()
    return options.mode, options.target, json.loads(options.plan)


async def every(method, kind, **wrapped):
    """All pages of a list. The SDKs differ in how they take the cursor and how they spell the next one."""
    found, cursor = [], None
    while True:
        page = await (method() if cursor is None else method(**{key: make(cursor) for key, make in wrapped.items()}))
        found += getattr(page, kind)
        cursor = getattr(page, "next_cursor", None) or getattr(page, "nextCursor", None)
        if cursor is None:
            return found


async def attempt(work, good):
    try:
        return good(await work)
    except Exception as error:  # whatever the SDK raises is part of the outcome
        inner = getattr(error, "error", error)
        code, data = getattr(inner, "code", None), getattr(inner, "data", None)
        return {"failed": {"code": code, "message": str(error), "data": data, "kind": type(error).__name__}}


def called(result):
    structured = getattr(result, "structured_content", None) or getattr(result, "structuredContent", None)
    error = getattr(result, "is_error", None) or getattr(result, "isError", None) or False
    return {"text": texts(result.content), "error": error, "structured": structured}


def read_contents(result):
    contents = getattr(result, "contents", result)
    return [json.loads(item.model_dump_json(by_alias=True, exclude_none=True)) for item in contents]


def got(result):
    return {"text": texts([message.content for message in result.messages])}


def texts(blocks):
    return "\n".join(block.text for block in blocks if getattr(block, "type", None) == "text")


def report(**outcome):
    print(json.dumps(outcome, default=str))


def filled(schema: dict) -> dict:
    """A form as a person fills it in who takes everything literally."""
    kinds = {"boolean": True, "string": "peer", "integer": 1, "number": 1.5}
    return {name: kinds.get(field.get("type")) for name, field in schema.get("properties", {}).items()}
