"""What `nexus certs dev` makes, and clients that trust it."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .paths import NEXUS


@dataclass(frozen=True)
class DevCertificates:
    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        return self.folder / "server-key.pem"

    @property
    def client(self) -> Path:
        return self.folder / "client.pem"

    @property
    def client_key(self) -> Path:
        return self.folder / "client-key.pem"

    @property
    def pfx(self) -> Path:
        return self.folder / "client.pfx"

    def table(self, **more) -> dict:
        """`[server.tls]` with the server's certificate."""
        return {"certificate": self.server, "key": self.server_key} | more

    def context(self, with_client: bool = False) -> ssl.SSLContext:
        """Python's checks at their strictest, which newer versions have by default."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if with_client:
            context.load_cert_chain(self.client, self.client_key)
        return context


def certs_dev(folder: Path, *more: str) -> DevCertificates:
    command = [str(NEXUS), "certs", "dev", "--out", str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return DevCertificates(folder)
