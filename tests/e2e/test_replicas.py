"""Two gateways beside one Redis: sessions change the replica on every call, one replica is killed and comes back, and limits count once."""

import time

import pytest

from support.fixture import fixture
from support.processes import eventually
from support.redis import redis_server
from support.replicas import Replicas, Session, admitted, calling

pytestmark = pytest.mark.gateway

SESSIONS = 10
# Seconds of load before the kill, while one replica is gone, and after it is back.
PHASES = (2.0, 1.0, 3.0)


@pytest.fixture(scope="module")
def redis(folder):
    with redis_server(folder / "replicas" / "redis") as url:
        yield url


def test_sessions_change_the_replica_on_every_call_and_survive_the_end_of_one(folder, redis):
    with fixture(folder / "replicas" / "server.log", "--legacy-only") as upstream:
        replicas = Replicas(folder / "replicas" / "sessions", redis, upstream)
        try:
            sessions = [Session(replicas.urls, f"<session {number}>") for number in range(SESSIONS)]
            with calling(sessions):
                time.sleep(PHASES[0])
                killed = time.monotonic()
                replicas.kill(1)
                time.sleep(PHASES[1])
                replicas.restart(1)
                back = time.monotonic()
                time.sleep(PHASES[2])
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
                assert session.delete(1) == 204
                assert eventually(lambda: session.pings() == [404, 404], 5), "the other replica is told at once"
        finally:
            replicas.stop()


def test_a_limit_of_a_client_is_counted_once_by_both_and_is_not_reset_by_a_restart(folder, redis):
    with fixture(folder / "replicas" / "limited.log", "--modern-only") as upstream:
        replicas = Replicas(folder / "replicas" / "limits", redis, upstream, limit=20)
        try:
            first = admitted(replicas, 30)
            assert 20 <= first <= 21, first
            replicas.kill(1)
            replicas.restart(1)
            again = admitted(replicas, 6)
            assert first + again <= 21, again
        finally:
            replicas.stop()
