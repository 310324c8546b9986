"""Servers of other programs for TLS tests: `openssl s_server`, nginx and HAProxy, each on a port of 127.0.0.1."""

import shutil
from contextlib import contextmanager
from pathlib import Path

from .certificates import Identity, openssl
from .processes import accepts, free_port, running

P256 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"


class Mint:
    """Odd certificates, by the openssl command."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True)

    def root(self, name: str, key=P256, digest="sha256", extensions=CA) -> Identity:
        made = Identity(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")
        words = [word for line in extensions.splitlines() for word in ("-addext", line)]
        (self.folder / "empty.cnf").write_text("[req]\ndistinguished_name=dn\n[dn]\n")
        openssl(
            *("req", "-x509", "-config", self.folder / "empty.cnf", "-newkey", *key, "-noenc", *((f"-{digest}",) if digest else ())),
            *("-subj", f"/O={name}/CN={name}", "-days", "30", "-keyout", made.key, "-out", made.certificate, *words),
        )
        made.key.chmod(0o600)
        return made

    def signed(self, ca: Identity, name: str, extensions=SERVER, key=P256, subject=None, digest="sha256", options=()) -> Identity:
        """`extensions=""` makes an X.509 version 1 certificate."""
        made = Identity(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")
        request, ext = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        openssl("req", "-new", "-newkey", *key, "-noenc", "-subj", subject or f"/CN={name}", "-keyout", made.key, "-out", request)
        ext.write_text(f"{extensions}\n")
        openssl(
            *("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key, "-days", "30", "-CAcreateserial"),
            *((f"-{digest}",) if digest else ()),
            *(("-extfile", ext) if extensions else ()),
            *(*options, "-out", made.certificate),
        )
        made.key.chmod(0o600)
        return made

    def bundle(self, name: str, *parts: Path) -> Path:
        """The files one after the other."""
        path = self.folder / name
        path.write_text("".join(part.read_text() for part in parts))
        path.chmod(0o600)
        return path


@contextmanager
def s_server(folder: Path, name: str, *words):
    port = free_port()
    with running(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", *words], folder / f"{name}.log") as process:
        process.until(lambda: "ACCEPT" in process.output(), 10, "accepted")
        yield port


@contextmanager
def nginx(folder: Path, servers: dict):
    """`servers`: name → the lines of a server block, without `listen`. Gives name → port."""
    place = folder / "nginx"
    place.mkdir()
    ports = {name: free_port() for name in servers}
    blocks = []
    for name, (listen, lines) in servers.items():
        blocks.append(f"server {{ listen 127.0.0.1:{ports[name]} {listen}; server_name localhost; {lines} location / {{ return 200 'ok'; }} }}")
    temporary = "".join(f"{kind}_temp_path {place}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (place / "nginx.conf").write_text(
        f"daemon off; pid {place}/pid; error_log {place}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n" + "\n".join(blocks) + "\n}\n"
    )
    command = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", place / "nginx.conf", "-p", place]
    with running(command, place / "nginx.log") as process:
        process.until(lambda: all(accepts(port) for port in ports.values()), 10, "listened")
        yield ports


@contextmanager
def haproxy(folder: Path, binds: dict):
    """`binds`: name → the words after `bind ADDRESS`. Gives name → port."""
    place = folder / "haproxy"
    place.mkdir()
    ports = {name: free_port() for name in binds}
    fronts = "".join(
        f"frontend {name}\n bind 127.0.0.1:{ports[name]} {words}\n http-request return status 200 content-type text/plain string ok\n"
        for name, words in binds.items()
    )
    (place / "haproxy.cfg").write_text(f"defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n{fronts}")
    command = [shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", place / "haproxy.cfg"]
    with running(command, place / "haproxy.log") as process:
        process.until(lambda: all(accepts(port) for port in ports.values()), 10, "listened")
        yield ports
