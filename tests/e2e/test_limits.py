"""Limits over a real minute, in memory and in Redis: what is admitted is what the formula says, to within one call."""

import http.client
import json
import math
import threading
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from support import raw
from support.fixture import fixture
from support.gateway import Gateway
from support.redis import redis_server

pytestmark = pytest.mark.gateway

MINUTE = 60.0
# Upstream → how many, in how many seconds, how many at once, and by how many callers that takes.
LIMITS = {"ten": (10, 60, 10, 1), "one": (1, 1, 1, 1), "hundred": (100, 1, 100, 6), "few": (10, 60, 3, 1), "many": (10, 1, 40, 2)}


class Caller:
    """Calls one tool as often as it may: whenever it is refused, it comes back when it was told to."""

    def __init__(self, url: str, upstream: str):
        self.url, self.tool = urlsplit(url), f"{upstream}__test_simple_text"
        self.connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=20)
        # When each admitted call was sent and answered, and each refused one; seconds.
        self.admitted, self.refused = [], []
        self.failure = None

    def call(self):
        meta = {
            "io.modelcontextprotocol/protocolVersion": raw.MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "raw-peer", "version": "1.0.0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": self.tool, "arguments": {}, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": raw.MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": self.tool,
        }
        self.connection.request("POST", self.url.path, json.dumps(body), headers)
        reply = self.connection.getresponse()
        text = reply.read().decode()
        (message,) = [message for message in map(json.loads, raw.messages_of(text)) if message.get("id") == 1]
        return reply, message

    def run(self, end: float):
        try:
            while (sent := time.monotonic()) < end:
                reply, message = self.call()
                answered = time.monotonic()
                if "result" in message:
                    self.admitted.append((sent, answered))
                    continue
                error = message["error"]
                assert (reply.status, error["code"]) == (200, -32000), message
                wait = error["data"]["retryAfterMs"] / 1000
                assert 0 < wait <= int(reply.headers["Retry-After"]), (wait, reply.headers["Retry-After"])
                self.refused.append((sent, answered))
                back = answered + wait
                time.sleep(max(0.0, min(back, end) - time.monotonic()))
        except BaseException as failure:
            self.failure = failure


def lost(admitted: list, refused: list, rate: float, burst: int) -> float:
    """How many calls were never asked for: a bucket that is full, because on a busy machine nobody came, takes no more tokens.

    At a refusal less than one token was left, so what is refused wrongly is not excused.
    """
    tokens, overflow, before = float(burst), 0.0, admitted[0][1]
    for (_, answered), is_admitted in sorted([(call, True) for call in admitted] + [(call, False) for call in refused], key=lambda e: e[0][1]):
        tokens, before = tokens + (answered - before) * rate, answered
        if is_admitted:
            overflow += max(0.0, tokens - burst)
            tokens = min(tokens, burst) - 1
        else:
            tokens = min(tokens, 1.0)
    return overflow


@pytest.fixture(scope="module")
def redis(folder):
    with redis_server(folder / "limits" / "redis") as url:
        yield url


def test_a_minute_admits_what_the_formula_says_in_memory_and_in_redis(folder, redis):
    stores = {"memory": None, "redis": {"type": "redis", "url": redis}}
    callers = {}
    with ExitStack() as stack:
        for store, storage in stores.items():
            place = folder / "limits" / store
            url = stack.enter_context(fixture(place / "server.log", "--modern-only"))
            limit = lambda limit, interval, burst: {"limit": limit, "interval": f"{interval}s", "burst": burst}
            upstreams = {name: {"url": url, "rate_limits": limit(*said[:3])} for name, said in LIMITS.items()}
            gateway = Gateway(upstreams | {"free": {"url": url}}, place / "gateway", storage=storage)
            stack.callback(gateway.stop)
            gateway.settled()
            if storage:
                gateway.process.until(lambda: "connected to Redis" in gateway.process.output(), 10, "was connected to Redis")
            for _ in range(3):
                raw.text_of(raw.call(gateway.url, "free__test_simple_text", {}))
            for name, said in LIMITS.items():
                callers[store, name] = [Caller(gateway.url, name) for _ in range(said[3])]
        end = time.monotonic() + MINUTE
        threads = [threading.Thread(target=one.run, args=(end,)) for all in callers.values() for one in all]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for (store, name), all in callers.items():
        limit, interval, burst, _ = LIMITS[name]
        for one in all:
            if one.failure:
                raise one.failure
        admitted = sorted(call for one in all for call in one.admitted)
        # At a refusal there was no token left. What was decided is known to have been between sending and answer.
        sent, answered = max(call for one in all for call in one.refused)
        first_sent, first_answered = admitted[0]
        at_most = burst + math.floor((answered - first_sent) * limit / interval) + 1
        refused = [call for one in all for call in one.refused]
        unasked = lost(admitted, refused, limit / interval, burst)
        at_least = burst + math.floor((sent - first_answered) * limit / interval - unasked) - 1
        surely = sum(1 for call in admitted if call[1] <= sent)
        perhaps = sum(1 for call in admitted if call[0] <= answered)
        print(f"{store}: {limit} per {interval} s, burst {burst}: {surely} to {perhaps} admitted in {answered - first_sent:.3f} s, {unasked:.1f} never asked for")
        assert surely <= at_most and perhaps >= at_least, (store, name, surely, perhaps, at_least, at_most)
        assert answered - first_sent > MINUTE / 2, "it was asked to the end"
