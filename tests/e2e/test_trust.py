"""Upstreams with odd certificates, from `openssl s_server`: each is down with its own code, and the good one works."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import pytest

from support import raw
from support.certificates import Authority, self_signed
from support.fixture import fixture
from support.gateway import Gateway
from support.processes import accepts, free_port, running

pytestmark = pytest.mark.gateway

DAY = timedelta(days=1)


@dataclass
class Odd:
    """How a server is started (`openssl s_server` with these words), and the code the gateway must give it."""

    code: str
    server: tuple
    tls: dict


def odd_servers(folder, ours: Authority, other: Authority) -> dict:
    def words(identity, *more):
        return ("-cert", identity.certificate, "-key", identity.key, *more)

    trust = {"root_ca_cert_path": ours.certificate}
    good = ours.server("good")
    lapsed_client = ours.client("lapsed-client", begins=-3 * DAY, ends=-DAY)
    stranger = other.client("stranger")
    for_clients = ours.issue("for-clients", "for-clients", "subjectAltName = DNS:localhost\nextendedKeyUsage = clientAuth")
    demanding = words(good, "-Verify", "1", "-verify_return_error", "-CAfile", ours.certificate)

    def presents(identity):
        return trust | {"client_cert_path": identity.certificate, "client_key_path": identity.key}

    return {
        "expired": Odd("tls_expired", words(ours.server("expired", begins=-3 * DAY, ends=-DAY)), trust),
        "early": Odd("tls_not_yet_valid", words(ours.server("early", begins=DAY)), trust),
        "wrong_name": Odd("tls_hostname_mismatch", words(ours.server("wrong-name", "DNS:elsewhere.example")), trust),
        "unknown_ca": Odd("tls_unknown_ca", words(other.server("foreign"), "-cert_chain", other.certificate), trust),
        "self_signed": Odd("tls_self_signed", words(self_signed(folder, "alone", is_ca=False)), trust),
        "self_signed_ca": Odd("tls_self_signed_ca", words(self_signed(folder, "alone-ca", is_ca=True)), trust),
        "wrong_usage": Odd("tls_wrong_usage", words(for_clients), trust),
        "wants_client": Odd("tls_client_cert_required", demanding, trust),
        "wants_client_12": Odd("tls_client_cert_required", (*demanding, "-tls1_2"), trust),
        "refuses_client": Odd("tls_client_cert_rejected", demanding, presents(stranger)),
        "too_old": Odd("tls_protocol_version", words(good, "-tls1_2"), trust | {"min_version": "1.3"}),
        "lapsed_client": Odd("local_expired", demanding, presents(lapsed_client)),
        "no_file": Odd("local_missing", words(good), {"root_ca_cert_path": folder / "missing.pem"}),
    }


@pytest.fixture(scope="module")
def odd(folder):
    place = folder / "trust"
    place.mkdir()
    servers = odd_servers(place, Authority(place, "our-ca"), Authority(place, "other-ca"))
    with ExitStack() as stack:
        tables = {"good": {"url": stack.enter_context(fixture(place / "good.log"))}}
        for name, case in servers.items():
            port = free_port()
            command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", *case.server]
            process = stack.enter_context(running(command, place / f"{name}.log"))
            process.until(lambda process=process: "ACCEPT" in process.output(), 10, "accepted")
            tables[name] = {"url": f"https://localhost:{port}/mcp", "tls": case.tls}
        plain = tables["good"]["url"].replace("http:", "https:")
        tables["plain_http"] = {"url": plain}
        tables["nobody"] = {"url": f"https://localhost:{free_port()}/mcp"}
        gateway = Gateway(tables, place / "gateway")
        stack.callback(gateway.stop)
        codes = {name: case.code for name, case in servers.items()} | {"plain_http": "tls_not_tls", "nobody": "refused"}
        yield gateway, codes


def test_every_odd_certificate_has_its_own_code(odd):
    gateway, codes = odd
    states = gateway.settled()
    wrong = {name: states[name] for name, code in codes.items() if states[name][0] != "down" or f"{code}" not in states[name][1].split()}
    assert wrong == {}


def test_the_good_upstream_works_beside_them(odd):
    gateway, _ = odd
    gateway.settled()
    assert raw.text_of(raw.call(gateway.url, "good__echo", {"text": "still here"})) == "still here"


def test_a_call_to_a_down_upstream_names_the_code_and_no_detail(odd):
    gateway, codes = odd
    gateway.settled()
    for name in ("expired", "wrong_name", "wants_client", "no_file"):
        error = raw.call(gateway.url, f"{name}__anything", {})["error"]
        assert error["code"] == -32603, error
        assert (error["data"]["upstream"], error["data"]["reason"]) == (name, codes[name])
        assert codes[name] in error["message"]
        for secret in ("127.0.0.1", "elsewhere.example", "missing.pem", "/"):
            assert secret not in error["message"], error["message"]


def test_the_name_that_the_server_presented_is_in_the_log(odd):
    gateway, _ = odd
    gateway.settled()
    assert "elsewhere.example" in gateway.process.output()
