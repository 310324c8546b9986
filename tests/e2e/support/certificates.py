"""Certificates minted with the openssl command, good ones and odd ones."""

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    certificate: Path
    key: Path


def openssl(*words, cwd: Path | None = None):
    done = subprocess.run(["openssl", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {' '.join(map(str, words))}:\n{done.stderr}"


class Authority:
    """A CA in a folder of its own."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca-key.pem"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-sha256"),
            *("-subj", f"/CN={name}", "-days", "30", "-keyout", self.key, "-out", self.certificate),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        (self.folder / "index.txt").touch()
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca = here\n[here]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\n"
            "policy = any\nunique_subject = no\n[any]\ncommonName = supplied\n"
        )

    def issue(self, name: str, subject: str, extensions: str, begins=-DAY, ends=30 * DAY) -> Identity:
        """A leaf; `begins` and `ends` are relative to now."""
        request, certificate, key = (self.folder / f"{name}{end}" for end in (".csr", ".pem", "-key.pem"))
        openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-sha256"),
            *("-subj", f"/CN={subject}", "-keyout", key, "-out", request),
        )
        (self.folder / f"{name}.ext").write_text(f"basicConstraints = critical,CA:FALSE\n{extensions}\n")
        now = datetime.datetime.now(datetime.UTC)
        openssl(
            *("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", self.certificate, "-keyfile", self.key),
            *("-startdate", f"{now + begins:%Y%m%d%H%M%SZ}", "-enddate", f"{now + ends:%Y%m%d%H%M%SZ}"),
            *("-extfile", f"{name}.ext", "-in", request, "-out", certificate),
            cwd=self.folder,
        )
        key.chmod(0o600)
        return Identity(certificate, key)

    def server(self, name: str, sans: str = "DNS:localhost,IP:127.0.0.1", **times) -> Identity:
        return self.issue(name, name, f"subjectAltName = {sans}\nextendedKeyUsage = serverAuth", **times)

    def client(self, name: str, **times) -> Identity:
        return self.issue(name, name, "extendedKeyUsage = clientAuth", **times)


def self_signed(folder: Path, name: str, is_ca: bool) -> Identity:
    """A server certificate that signed itself; `is_ca` marks it as a CA, as `openssl req -x509` does by default."""
    identity = Identity(folder / f"{name}.pem", folder / f"{name}-key.pem")
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-sha256", "-days", "30"),
        *("-subj", f"/CN={name}", "-keyout", identity.key, "-out", identity.certificate),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *(() if is_ca else ("-addext", "basicConstraints=critical,CA:FALSE")),
    )
    return identity
