"""A new client certificate behind a real nginx that does not know its CA yet: no call fails, and the swap comes by itself."""

import shutil
import threading
from pathlib import Path

import pytest

from support import raw
from support.certificates import Authority
from support.fixture import fixture
from support.gateway import Gateway
from support.processes import Process, accepts, free_port

pytestmark = [pytest.mark.gateway, pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")]

# The gateway tries what was rejected again each minute.
RETRY = 60


def nginx_conf(folder, port, server, client_cas, upstream) -> str:
    return f"""
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {server.certificate};
        ssl_certificate_key {server.key};
        ssl_client_certificate {client_cas};
        ssl_verify_client on;
        location / {{ proxy_pass {upstream}; proxy_buffering off; proxy_set_header X-Client $ssl_client_s_dn; }}
    }}
}}
"""


def workers(nginx) -> list[str]:
    """The ids of the worker processes, of those that shut down too."""
    master = nginx.child.pid
    return Path(f"/proc/{master}/task/{master}/children").read_text().split()


def is_retired(worker) -> bool:
    """Whether a worker has closed its idle connections.

    It says in its title that it is shutting down first and closes them then, in one go: so it has, once it says that and
    afterwards waits for the network.
    """
    try:
        title = Path(f"/proc/{worker}/cmdline").read_text()
        state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return "shutting down" in title and state == "S" or state == "Z"


def test_an_identity_that_nginx_does_not_know_yet_is_taken_over_once_it_does(tmp_path):
    servers, ours, next_ca = (Authority(tmp_path, name) for name in ("servers", "clients", "next-clients"))
    first, second = ours.client("first"), next_ca.client("second")
    identity = tmp_path / "identity"
    identity.mkdir()
    client_cas = tmp_path / "client-cas.pem"
    shutil.copy(ours.certificate, client_cas)

    def install(new):
        # Renamed over, key first: for a moment they do not fit.
        for source, name in ((new.key, "key.pem"), (new.certificate, "cert.pem")):
            fresh = identity / "fresh"
            shutil.copy(source, fresh)
            fresh.chmod(0o600)
            fresh.rename(identity / name)

    install(first)
    with fixture(tmp_path / "fixture.log") as url:
        port = free_port()
        conf = tmp_path / "nginx.conf"
        conf.write_text(nginx_conf(tmp_path, port, servers.server("front"), client_cas, url.removesuffix("/mcp")))
        nginx = Process(["nginx", "-p", tmp_path, "-e", "stderr", "-c", conf], tmp_path / "nginx.log")
        tls = {
            "root_ca_cert_path": servers.certificate,
            "client_cert_path": identity / "cert.pem",
            "client_key_path": identity / "key.pem",
        }
        gateway = None
        try:
            nginx.until(lambda: accepts(port), 10, "listened")
            gateway = Gateway({"front": {"url": f"https://localhost:{port}/mcp", "tls": tls}}, tmp_path / "gateway")
            assert gateway.settled()["front"][0] == "up"
            failed, calls, stop, go = [], [0], threading.Event(), threading.Event()
            resting = threading.Barrier(5)
            go.set()

            def call():
                while not stop.is_set():
                    if not go.is_set():
                        resting.wait(10)
                        go.wait(30)
                    answer = raw.call(gateway.url, "front__echo", {"text": "still here"})
                    calls[0] += 1
                    if "result" not in answer:
                        failed.append(answer)

            callers = [threading.Thread(target=call) for _ in range(4)]
            for caller in callers:
                caller.start()
            install(second)
            rejected = lambda: "reload_rejected" in gateway.states().get("front", ("", ""))[1]
            gateway.process.until(rejected, 20, "rejected what nginx does not know")
            with client_cas.open("a") as file:
                file.write(next_ca.certificate.read_text())
            # No client can tell whether a request was run that meets nginx closing its idle connections, so none is sent then.
            go.clear()
            resting.wait(10)
            old = workers(nginx)
            nginx.child.send_signal(1)
            nginx.until(lambda: all(is_retired(worker) for worker in old), 20, "retired its workers")
            go.set()
            gateway.process.until(lambda: "a new generation serves" in gateway.process.output(), RETRY + 20, "took the new identity over")
            gateway.process.until(lambda: gateway.states()["front"][0] == "up", 5, "was up")
            before = calls[0]
            gateway.process.until(lambda: calls[0] > before + 20, 10, "went on serving")
            stop.set()
            for caller in callers:
                caller.join(10)
            assert calls[0] > 40 and not failed, failed[:3]
        finally:
            if gateway is not None:
                gateway.stop()
            nginx.stop()
