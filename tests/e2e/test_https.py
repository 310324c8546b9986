"""HTTPS to the gateway, with certificates of `nexus certs dev`: real clients, client certificates, and a scanner's view."""

import json
import os
import ssl
import subprocess
import urllib.error

import pytest

from support import raw
from support.certs_dev import certs_dev
from support.clients import CLIENTS
from support.fixture import fixture
from support.gateway import Gateway
from support.paths import NEXUS, NODE, SSLYZE

pytestmark = pytest.mark.gateway

# Reads its CA, and perhaps an archive with a password, from its arguments, and prints the status of one request.
NODE_GET = """
const [url, ca, pfx, passphrase] = process.argv.slice(1);
const fs = require("fs");
const options = { ca: fs.readFileSync(ca), ...(pfx ? { pfx: fs.readFileSync(pfx), passphrase } : {}) };
require("https").get(url, options, (reply) => { reply.resume(); console.log(reply.statusCode); })
    .on("error", (error) => { console.error(error.code); process.exit(1); });
"""


def run(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False, **more)


@pytest.fixture(scope="module")
def certificates(folder):
    return certs_dev(folder / "certs-dev", "--host", "gateway.test", "10.1.2.3")


@pytest.fixture(scope="module")
def upstream(folder):
    with fixture(folder / "https-fixture.log") as url:
        yield {"up": {"url": url}}


@pytest.fixture(scope="module")
def open_to_all(folder, certificates, upstream):
    gateway = Gateway(upstream, folder / "https", certificates.table(hsts=True), certificates.context())
    gateway.settled()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def for_clients(folder, certificates, upstream):
    table = certificates.table(client_ca=certificates.ca)
    gateway = Gateway(upstream, folder / "https-clients", table, certificates.context(with_client=True))
    gateway.settled()
    yield gateway
    gateway.stop()


def test_the_certificates_pass_opensslsstrictest_checks(certificates):
    for certificate, purpose in ((certificates.server, "sslserver"), (certificates.client, "sslclient")):
        done = run("openssl", "verify", "-x509_strict", "-CAfile", certificates.ca, "-purpose", purpose, certificate)
        assert done.returncode == 0, done.stderr
    for name in ("localhost", "gateway.test"):
        done = run("openssl", "verify", "-x509_strict", "-CAfile", certificates.ca, "-verify_hostname", name, certificates.server)
        assert done.returncode == 0, done.stderr
    for address in ("127.0.0.1", "::1", "10.1.2.3"):
        done = run("openssl", "verify", "-x509_strict", "-CAfile", certificates.ca, "-verify_ip", address, certificates.server)
        assert done.returncode == 0, done.stderr
    done = run("openssl", "verify", "-x509_strict", "-CAfile", certificates.ca, "-purpose", "sslserver", certificates.client)
    assert done.returncode != 0, "the client's certificate is no server's"


def test_the_archive_opens_elsewhere(certificates):
    done = run("openssl", "pkcs12", "-in", certificates.pfx, "-passin", "pass:changeit", "-nodes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("BEGIN CERTIFICATE") == 2 and "BEGIN PRIVATE KEY" in done.stdout
    assert run("openssl", "pkcs12", "-in", certificates.pfx, "-passin", "pass:wrong", "-nodes").returncode != 0


def test_nothing_is_overwritten(certificates):
    before = {path: path.read_bytes() for path in certificates.folder.iterdir()}
    done = run(NEXUS, "certs", "dev", "--out", certificates.folder)
    assert done.returncode == 1 and "not overwritten" in done.stderr
    assert {path: path.read_bytes() for path in certificates.folder.iterdir()} == before


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.https], ids=lambda client: client.name)
def test_every_sdk_calls_over_https(client, open_to_all, certificates):
    outcome = client.run([open_to_all.url], {"calls": [{"name": "up__echo", "arguments": {"text": "secured"}}]}, ca=certificates.ca)
    assert [answer.get("text") for answer in outcome["calls"]] == ["secured"], outcome


def test_python_at_its_strictest_calls_over_https(open_to_all, certificates):
    reply = raw.call(open_to_all.url, "up__echo", {"text": "strict"}, certificates.context())
    assert raw.text_of(reply) == "strict"


def test_curl_speaks_both_versions_of_http_and_is_told_to_come_back_over_https(open_to_all, certificates):
    url = f"{open_to_all.base}/health"
    for wanted, version in (("--http1.1", "1.1"), ("--http2", "2")):
        written = "%{http_version} %{ssl_verify_result} %header{strict-transport-security}"
        done = run("curl", "--silent", "--show-error", wanted, "--cacert", certificates.ca, "--output", os.devnull, "--write-out", written, url)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{version} 0 max-age=63072000"
    done = run("curl", "--silent", "--show-error", url)
    assert done.returncode == 60, "a CA that nobody trusts yet"


def test_plain_http_is_told_what_to_do(open_to_all):
    done = run("curl", "--silent", "--show-error", "--write-out", "%{http_code}", open_to_all.base.replace("https:", "http:") + "/mcp")
    assert done.stdout.endswith("400") and "Use https://" in done.stdout, done


def test_a_client_certificate_lets_everyone_in_and_its_absence_nobody(for_clients, certificates):
    url = f"{for_clients.base}/health"
    curl = ("curl", "--silent", "--show-error", "--fail", "--cacert", certificates.ca)
    for words in (
        (*curl, "--cert", certificates.client, "--key", certificates.client_key, url),
        (*curl, "--cert", f"{certificates.pfx}:changeit", "--cert-type", "P12", url),
        (*curl, "--tls-max", "1.2", "--cert", certificates.client, "--key", certificates.client_key, url),
        (NODE, "-e", NODE_GET, url, certificates.ca, certificates.pfx, "changeit"),
    ):
        done = run(*words)
        assert done.returncode == 0 and ("healthy" in done.stdout or "200" in done.stdout), done
    for words in ((*curl, url), (*curl, "--tls-max", "1.2", url), (NODE, "-e", NODE_GET, url, certificates.ca)):
        assert run(*words).returncode != 0, words

    reply = raw.call(for_clients.url, "up__echo", {"text": "known"}, certificates.context(with_client=True))
    assert raw.text_of(reply) == "known"
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        raw.call(for_clients.url, "up__echo", {"text": "unknown"}, certificates.context())


def test_why_a_client_was_refused_is_in_the_log(for_clients, certificates, folder):
    stranger = certs_dev(folder / "certs-stranger")
    url = f"{for_clients.base}/health"
    run("curl", "--silent", "--cacert", certificates.ca, "--cert", stranger.client, "--key", stranger.client_key, url)
    run("curl", "--silent", "--cacert", certificates.ca, url)
    log = for_clients.process
    log.until(lambda: "it showed no client certificate" in log.output(), 10, "said so")
    assert "not signed by the CA in client_ca" in log.output() or "comes from no CA in client_ca" in log.output()


def test_the_start_line_says_https_and_who_gets_in(for_clients, open_to_all):
    assert "· TLS 1.2 or newer, client certificates required (ca.pem)" in for_clients.process.output()
    assert "/mcp · TLS 1.2 or newer\n" in open_to_all.process.output()


def scan(gateway, mozilla: str, certificates, report) -> dict:
    port = gateway.base.rsplit(":", 1)[1]
    words = (f"--mozilla_config={mozilla}", "--certinfo_ca_file", certificates.ca, "--json_out", report)
    done = run(SSLYZE, *words, f"localhost:{port}{{127.0.0.1}}")
    assert f"localhost:{port}: OK - Compliant." in done.stdout, done.stdout[-3000:]
    scanned = json.loads(report.read_text())["server_scan_results"][0]
    assert scanned["connectivity_status"] == "COMPLETED" and scanned["scan_status"] == "COMPLETED"
    return {name: bool(scanned["scan_result"][f"{name}_cipher_suites"]["result"]["accepted_cipher_suites"]) for name in VERSIONS}


VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")


def test_a_scanner_finds_the_listener_compliant(open_to_all, certificates, folder):
    accepted = scan(open_to_all, "intermediate", certificates, folder / "sslyze.json")
    assert accepted == {name: name in ("tls_1_2", "tls_1_3") for name in VERSIONS}


def test_a_scanner_finds_tls_1_3_alone_modern(certificates, folder):
    gateway = Gateway({}, folder / "https-modern", certificates.table(min_version="1.3"), certificates.context())
    try:
        accepted = scan(gateway, "modern", certificates, folder / "sslyze-modern.json")
    finally:
        gateway.stop()
    assert accepted == {name: name == "tls_1_3" for name in VERSIONS}
