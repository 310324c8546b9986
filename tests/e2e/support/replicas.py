"""Two gateways beside one Redis, and clients whose every call goes to the other one."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from support import raw
from support.gateway import Gateway, literal
from support.processes import free_port

SECRET = "a secret of both replicas, of 32 bytes and more"


class Replicas:
    """Two gateways of one configuration, on ports that they keep.

    `tls` is the table for Redis; `limit`: how many calls an hour a client has, counted in Redis, which is waited for at most
    `patience`.
    """

    def __init__(self, folder: Path, redis: str, upstream: str, limit: int = 0, tls: dict | None = None, patience: str = "1s"):
        self.folder, self.upstream, self.starts = folder, upstream, 0
        self.tables = tables(redis, limit, tls, patience)
        self.ports = [free_port(), free_port()]
        self.running = []
        for at in range(2):
            self.running.append(self.start(at))

    def start(self, at: int) -> Gateway:
        self.starts += 1
        upstreams = {"fixture": {"url": self.upstream}, "again": {"url": self.upstream}}
        gateway = Gateway(upstreams, self.folder / f"gateway-{self.starts}", tables=self.tables, port=self.ports[at])
        try:
            gateway.settled()
            gateway.process.until(lambda: "connected to Redis" in gateway.process.output(), 10, "was connected to Redis")
        except BaseException:
            gateway.stop()
            raise
        return gateway

    def kill(self, at: int):
        self.running[at].process.child.kill()
        self.running[at].process.child.wait()

    def restart(self, at: int):
        self.running[at] = self.start(at)

    def stop(self):
        for gateway in self.running:
            gateway.stop()

    @property
    def urls(self) -> list:
        return [gateway.url for gateway in self.running]


def tables(redis: str, limit: int = 0, tls: dict | None = None, patience: str = "1s") -> str:
    """`[state]`, and where limits are counted."""
    inline = f"tls = {{ {', '.join(f'{key} = {literal(value)}' for key, value in tls.items())} }}" if tls else ""
    lines = ["[state]", 'store = "redis"', f'redis_url = "{redis}"', f'secrets = ["{SECRET}"]', inline]
    if limit:
        # A bucket of its own for each limit: all callers of these gateways are one client.
        lines += ["[server.rate_limits.storage]", 'type = "redis"', f'url = "{redis}"', f'key_prefix = "nexus:{limit}:"']
        lines += ['on_error = "deny"', f'response_timeout = "{patience}"', inline]
        lines += ["[server.rate_limits.per_client]", f"limit = {limit}", 'interval = "1h"']
    return "\n".join(lines) + "\n"


class Session:
    """A client with one session, which calls one replica after the other."""

    def __init__(self, urls: list, name: str):
        self.urls, self.name, self.number = urls, name, 0
        status, headers, text = raw.post(urls[0], raw.INITIALIZE)
        assert status == 200, text
        session = {name.lower(): value for name, value in headers.items()}["mcp-session-id"]
        self.headers = {"Mcp_Session_Id": session, "MCP_Protocol_Version": raw.LEGACY}
        status, _, text = raw.post(urls[1], raw.INITIALIZED, **self.headers)
        assert status == 202, text
        # When each call was answered, by replica; when a call found its replica gone; what else went wrong.
        self.answered, self.lost, self.wrong = [[], []], [[], []], []

    def call(self, at: int):
        self.number += 1
        words = f"{self.name}, call {self.number}"
        params = {"name": "fixture__echo", "arguments": {"text": words}}
        body = {"jsonrpc": "2.0", "id": self.number, "method": "tools/call", "params": params}
        try:
            status, _, text = raw.post(self.urls[at], body, **self.headers)
            messages = [json.loads(message) for message in raw.messages_of(text)]
            replies = [message for message in messages if message.get("id") == self.number]
        except (ConnectionError, http.client.HTTPException, json.JSONDecodeError):
            self.lost[at].append(time.monotonic())
            return
        if status == 200 and not replies:
            # The stream broke off before the answer.
            self.lost[at].append(time.monotonic())
        elif status != 200 or words not in json.dumps(replies[0], ensure_ascii=False):
            self.wrong.append((at, status, text))
        else:
            self.answered[at].append(time.monotonic())

    def run(self, end: threading.Event):
        at = 0
        while not end.is_set():
            self.call(at)
            at = 1 - at

    def delete(self, at: int) -> int:
        """Ends it. The status."""
        parts = urlsplit(self.urls[at])
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        own = {name.replace("_", "-"): value for name, value in self.headers.items()}
        try:
            connection.request("DELETE", parts.path, headers=own)
            return connection.getresponse().status
        finally:
            connection.close()

    def pings(self) -> list:
        """The status of a ping at each replica."""
        return [raw.post(url, {"jsonrpc": "2.0", "id": 1, "method": "ping"}, **self.headers)[0] for url in self.urls]


@contextmanager
def calling(sessions: list):
    """All of them call, until the end."""
    end = threading.Event()
    threads = [threading.Thread(target=session.run, args=(end,)) for session in sessions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def admitted(replicas: Replicas, calls: int) -> int:
    """How many of so many calls, one replica after the other, a limit lets through."""
    ask = lambda at: "result" in raw.call(replicas.urls[at], "fixture__echo", {"text": "x"})
    return sum(ask(number % 2) for number in range(calls))
