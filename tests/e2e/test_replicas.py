"""Two gateways beside one Redis: sessions change the replica on every call, one replica is killed and comes back, and limits count once."""

import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import pytest

from support import raw
from support.fixture import fixture
from support.gateway import Gateway
from support.processes import eventually, free_port
from support.redis import redis_server

pytestmark = pytest.mark.gateway

SESSIONS = 10
# Seconds of load before the kill, while one replica is gone, and after it is back.
PHASES = (2.0, 1.0, 3.0)
SECRET = "a secret of both replicas, of 32 bytes and more"


@pytest.fixture(scope="module")
def redis(folder):
    with redis_server(folder / "replicas" / "redis") as url:
        yield url


class Replicas:
    """Two gateways of one configuration, on ports that they keep."""

    def __init__(self, folder, redis: str, upstream: str, limits: str = ""):
        self.folder, self.upstream, self.starts = folder, upstream, 0
        self.tables = f'[state]\nstore = "redis"\nredis_url = "{redis}"\nsecrets = ["{SECRET}"]\n{limits}'
        self.ports = [free_port(), free_port()]
        self.running = [self.start(at) for at in range(2)]

    def start(self, at: int) -> Gateway:
        self.starts += 1
        upstreams = {"fixture": {"url": self.upstream}, "again": {"url": self.upstream}}
        gateway = Gateway(upstreams, self.folder / f"gateway-{self.starts}", tables=self.tables, port=self.ports[at])
        gateway.settled()
        gateway.process.until(lambda: "connected to Redis" in gateway.process.output(), 10, "was connected to Redis")
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
        elif status != 200 or words not in raw.text_of(replies[0]):
            self.wrong.append((at, status, text))
        else:
            self.answered[at].append(time.monotonic())

    def run(self, end: threading.Event):
        at = 0
        while not end.is_set():
            self.call(at)
            at = 1 - at


def test_sessions_change_the_replica_on_every_call_and_survive_the_end_of_one(folder, redis):
    with fixture(folder / "replicas" / "server.log", "--legacy-only") as upstream:
        replicas = Replicas(folder / "replicas" / "sessions", redis, upstream)
        try:
            sessions = [Session(replicas.urls, f"<session {number}>") for number in range(SESSIONS)]
            end = threading.Event()
            threads = [threading.Thread(target=session.run, args=(end,)) for session in sessions]
            for thread in threads:
                thread.start()
            time.sleep(PHASES[0])
            killed = time.monotonic()
            replicas.kill(1)
            time.sleep(PHASES[1])
            replicas.restart(1)
            back = time.monotonic()
            time.sleep(PHASES[2])
            end.set()
            for thread in threads:
                thread.join()
            for session in sessions:
                assert not session.wrong, session.wrong[:3]
                assert not session.lost[0], "the replica that lived on lost nothing"
                assert all(killed <= at <= back for at in session.lost[1]), "nothing is lost while both are there"
                for at, since in ((0, 0), (1, 0), (0, killed), (1, back)):
                    assert [answer for answer in session.answered[at] if answer > since], f"{session.name} at {at}"
            lost = sum(len(session.lost[1]) for session in sessions)
            answered = sum(len(session.answered[at]) for session in sessions for at in range(2))
            print(f"{answered} calls answered; {lost} found their replica gone; no session lost")
            for session in sessions[:3]:
                parts = urlsplit(replicas.urls[1])
                connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
                own = {name.replace("_", "-"): value for name, value in session.headers.items()}
                connection.request("DELETE", parts.path, headers=own)
                assert connection.getresponse().status == 204
                connection.close()
                ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                gone = lambda: [raw.post(url, ping, **session.headers)[0] for url in replicas.urls] == [404, 404]
                assert eventually(gone, 5), "the other replica is told at once"
        finally:
            replicas.stop()


def test_a_limit_of_a_client_is_counted_once_by_both_and_is_not_reset_by_a_restart(folder, redis):
    limits = f"""
[server.rate_limits.storage]
type = "redis"
url = "{redis}"
on_error = "deny"

[server.rate_limits.per_client]
limit = 20
interval = "1h"
"""
    with fixture(folder / "replicas" / "limited.log", "--modern-only") as upstream:
        replicas = Replicas(folder / "replicas" / "limits", redis, upstream, limits)
        try:
            ask = lambda at: "result" in raw.call(replicas.urls[at], "fixture__echo", {"text": "x"})
            admitted = sum(ask(number % 2) for number in range(30))
            assert 20 <= admitted <= 21, admitted
            replicas.kill(1)
            replicas.restart(1)
            again = sum(ask(number % 2) for number in range(6))
            assert admitted + again <= 21, again
        finally:
            replicas.stop()
