"""Redis as it is in the field: over mutual TLS, behind Sentinels, and as a cluster. Sessions move and limits count once with each."""

import json
import re
import subprocess
import time
from contextlib import ExitStack

import pytest

from support import raw
from support.certificates import Authority
from support.fixture import fixture
from support.gateway import Gateway
from support.paths import NEXUS
from support.processes import eventually
from support.redis import Cluster, Redis, Sentinels, Tls, WHO_IN_URL, rights
from support.replicas import Replicas, Session, admitted, calling, tables

pytestmark = pytest.mark.gateway

SESSIONS = 4
# Calls of each session that prove that it goes on.
ENOUGH = 10
# A token whose answer comes too late is spent for nothing: where tokens are counted, a slow machine is waited for.
PATIENCE = "10s"


@pytest.fixture(scope="module")
def place(folder):
    return folder / "redis"


@pytest.fixture(scope="module")
def tls(place):
    return Tls(place)


@pytest.fixture(scope="module")
def upstream(place):
    """Speaks both eras: sessions and calls without one."""
    with fixture(place / "server.log") as url:
        yield url


def all_go_on(sessions: list, since: float, seconds: float = 20) -> bool:
    """Whether each of them is answered by both replicas, often enough."""
    enough = lambda session, at: sum(1 for answer in session.answered[at] if answer > since) >= ENOUGH
    return eventually(lambda: all(enough(session, at) for session in sessions for at in range(2)), seconds)


def begun(replicas: Replicas) -> list:
    return [Session(replicas.urls, f"<session {number}>") for number in range(SESSIONS)]


def sessions_move(replicas: Replicas):
    sessions = begun(replicas)
    with calling(sessions):
        assert all_go_on(sessions, 0), [session.wrong[:3] for session in sessions]
    for session in sessions:
        assert not session.wrong and session.lost == [[], []], session.wrong[:3]
        assert session.delete(1) == 204
        assert eventually(lambda: session.pings() == [404, 404], 5), "the other replica is told"


def limits_count_once(replicas: Replicas, limit: int):
    let_through = admitted(replicas, limit + 5)
    assert limit <= let_through <= limit + 1, let_through


def test_with_mutual_tls_and_a_private_ca_sessions_move_and_limits_count_once(place, tls, upstream):
    with ExitStack() as stack:
        server = Redis(place / "mtls", *rights("one server"), tls=tls)
        stack.callback(server.stop)
        replicas = Replicas(place / "mtls-replicas", server.url_of(WHO_IN_URL), upstream, tls=tls.table)
        stack.callback(replicas.stop)
        sessions_move(replicas)
        limited = Replicas(place / "mtls-limited", server.url_of(WHO_IN_URL), upstream, limit=10, tls=tls.table, patience=PATIENCE)
        stack.callback(limited.stop)
        limits_count_once(limited, 10)


def test_a_wrong_ca_is_named_by_the_log_and_by_check(place, tls, upstream):
    with ExitStack() as stack:
        server = Redis(place / "wrong-ca", tls=tls)
        stack.callback(server.stop)
        other = tls.table | {"root_ca_cert_path": Authority(place, "other-ca").certificate}
        gateway = Gateway({"fixture": {"url": upstream}}, place / "wrong-ca-gateway", tables=tables(server.url, tls=other))
        stack.callback(gateway.stop)
        said = re.compile(r'Redis is not reachable .*reason="tls_unknown_ca" .*root_ca_cert_path')
        gateway.process.until(lambda: said.search(gateway.process.output()), 20, "said that the CA is another")
        assert raw.post(gateway.url, raw.INITIALIZE)[0] == 503, "no session is begun that others could not find"
        code, report = checked(gateway)
        (redis,) = report["redis"]
        assert (code, redis["table"], redis["state"], redis["reason"]) == (1, "state", "down", "tls_unknown_ca"), redis
        gateway.config.write_text(gateway.config.read_text().replace(str(other["root_ca_cert_path"]), str(tls.authority.certificate)))
        code, report = checked(gateway)
        assert (code, [redis["state"] for redis in report["redis"]]) == (0, ["up"]), report


def test_sentinels_lead_to_the_new_primary_when_the_old_one_is_killed(place, tls, upstream):
    with ExitStack() as stack:
        redis = Sentinels(place / "sentinels", stack, tls)
        replicas = Replicas(place / "sentinels-replicas", redis.url, upstream, limit=1_000_000, tls=tls.table)
        stack.callback(replicas.stop)
        limited = Replicas(place / "sentinels-limited", redis.url, upstream, limit=10, tls=tls.table, patience=PATIENCE)
        stack.callback(limited.stop)
        sessions = begun(replicas)
        with calling(sessions):
            assert all_go_on(sessions, 0), [session.wrong[:3] for session in sessions]
            limits_count_once(limited, 10)
            assert redis.primary.cli("WAIT", 1, 5000) == "1", "the replica has what the primary has"
            redis.primary.kill()
            assert eventually(redis.takes_over, 30), "the replica becomes the primary"
            assert all_go_on(sessions, time.monotonic()), [session.wrong[-3:] for session in sessions]
            # Who comes anew finds them where they were copied to.
            replicas.kill(1)
            replicas.restart(1)
            assert all_go_on(sessions, time.monotonic()), [session.wrong[-3:] for session in sessions]
        only_limits_refused(sessions)
        sessions_move(replicas)
        assert eventually(lambda: scope(limited) == "client", 60), "what was counted was copied, too"
        assert redis.replica.cli("ACL", "LOG") == "", "the rights of docs/scaling.md are enough"


def test_the_sentinels_of_the_url_are_asked_again_when_those_that_were_found_are_gone(place, tls, upstream):
    with ExitStack() as stack:
        redis = Sentinels(place / "gone", stack, tls)
        replicas = Replicas(place / "gone-replicas", redis.url, upstream, tls=tls.table)
        stack.callback(replicas.stop)
        for sentinel in redis.sentinels[1:]:
            sentinel.kill()
        redis.cut_off()
        # Nothing was begun before, so that each needs the store.
        assert eventually(lambda: raw.post(replicas.urls[0], raw.INITIALIZE)[0] == 200, 30)
        assert eventually(lambda: raw.post(replicas.urls[1], raw.INITIALIZE)[0] == 200, 30)
        sessions_move(replicas)


def test_in_a_cluster_of_three_sessions_spread_and_limits_count_once_also_after_a_node_was_gone(place, tls, upstream):
    with ExitStack() as stack:
        redis = Cluster(place / "cluster", stack, tls)
        limited = Replicas(place / "cluster-limited", redis.url, upstream, limit=10, tls=tls.table, patience=PATIENCE)
        stack.callback(limited.stop)
        limits_count_once(limited, 10)
        replicas = Replicas(place / "cluster-replicas", redis.url, upstream, limit=1_000_000, tls=tls.table)
        stack.callback(replicas.stop)
        sessions = begun(replicas)
        while 0 in redis.keys() and len(sessions) < 100:
            sessions += begun(replicas)
        assert 0 not in redis.keys(), "each node has some"
        callers = sessions[:SESSIONS]
        with calling(callers):
            assert all_go_on(callers, 0), [session.wrong[:3] for session in callers]
            # Everything of limits is in one slot, which every call needs.
            redis.hand_over(redis.nodes[0].cli("CLUSTER", "KEYSLOT", "{limits}"))
            assert all_go_on(callers, time.monotonic()), [session.wrong[-3:] for session in callers]
        only_limits_refused(callers)
        sessions_move(replicas)
        assert scope(limited) == "client", "what was counted went with its slot"
        for node in redis.nodes:
            assert node.cli("ACL", "LOG") == "", "the rights of docs/scaling.md are enough"
        # A cluster without one of its slots answers nothing.
        redis.nodes[2].kill()
        begins = lambda at: '"result"' in raw.post(replicas.urls[at], raw.INITIALIZE)[2]
        assert eventually(lambda: not begins(0), 20), "no session is begun that others could not find"
        redis.nodes[2].start()
        assert all(eventually(lambda: begins(at), 30) for at in range(2)), "and then they are again"
        sessions_move(replicas)


def only_limits_refused(sessions: list):
    """Limits are asked at every call, and refuse while nobody answers; but no session is ever unknown."""
    for session in sessions:
        assert all(status in (200, 503) and "storage" in text for _, status, text in session.wrong), session.wrong[:3]


def checked(gateway: Gateway) -> tuple:
    """What `nexus check --connect` says of its file: the exit code and the report."""
    command = [NEXUS, "--config", gateway.config, "check", "--connect", "--format", "json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout)


def scope(replicas: Replicas) -> str:
    """Which limit refuses a call."""
    return raw.call(replicas.urls[0], "fixture__echo", {"text": "x"})["error"]["data"]["scope"]
