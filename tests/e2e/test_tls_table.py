"""Failed handshakes with the servers of other programs, a row each: the prober gives the right code ten times of ten, and
traffic gives it where traffic can know.

The rows that a rustls server can make are in `tests/it/tls_policy/table.rs`. `nexus check --connect` tells both at once.
"""

import json
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.certificates import openssl
from support.paths import NEXUS
from support.processes import free_port
from support.tls_peers import CA, SERVER, Mint, haproxy, nginx, s_server

pytestmark = pytest.mark.gateway

TIMES = 10
OK = "ok"


@dataclass
class Row:
    """What one server is to be told as."""

    port: int
    #: The code of the first error, or OK; None: there is no TLS to probe.
    probe: str | None
    #: Its code; OK: nothing about TLS; None: traffic cannot know.
    traffic: str | None
    tls: dict = field(default_factory=dict)
    #: A code among the findings, of any severity.
    finding: str | None = None
    #: A word of the deciding detail.
    says: str = ""
    more: dict = field(default_factory=dict)


def openssl_rows(stack: ExitStack, folder: Path) -> dict:
    mint = Mint(folder / "certificates")
    ours, stranger = mint.root("Ours"), mint.root("Stranger")
    trust = {"root_ca_cert_path": ours.certificate}
    good = mint.signed(ours, "good")
    rows = {}

    def serve(name, identity, *words, chain=None):
        extra = ("-cert_chain", chain, "-no-CAfile", "-no-CApath") if chain else ()
        return stack.enter_context(s_server(folder, name, "-cert", identity.certificate, "-key", identity.key, *extra, *words))

    def row(name, identity, probe, traffic, *words, chain=None, tls=trust, **more):
        rows[name] = Row(serve(name, identity, *words, chain=chain), probe, traffic, tls, **more)

    def same(name, identity, code, *words, **more):
        row(name, identity, code, code, *words, **more)

    # Which certificates are taken, and what is said of the others.
    own_ca = mint.root("localhost", extensions=CA.splitlines()[0] + "\nsubjectAltName=DNS:localhost")
    same("self_signed_ca_as_its_own_root", own_ca, OK, tls={"root_ca_cert_path": own_ca.certificate})
    own = mint.root("localhost2", extensions="basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost")
    same("self_signed_leaf_as_its_own_root", own, OK, tls={"root_ca_cert_path": own.certificate})
    bare = mint.root("localhost3", extensions="subjectAltName=DNS:localhost")
    same("self_signed_without_constraints_as_its_own_root", bare, OK, tls={"root_ca_cert_path": bare.certificate})
    same("leaf_of_a_ca_as_its_own_anchor", good, OK, tls={"root_ca_cert_path": good.certificate})
    middle = mint.signed(ours, "middle", CA, subject="/O=Ours/CN=middle")
    under = mint.signed(middle, "under")
    same("intermediate_as_anchor_full_chain", under, OK, chain=middle.certificate, tls={"root_ca_cert_path": middle.certificate})
    same("intermediate_as_anchor_leaf_only", under, OK, tls={"root_ca_cert_path": middle.certificate}, finding="tls_incomplete_chain")
    same("v1_leaf", mint.signed(ours, "v1", ""), "tls_cert_version", says="version 1")
    old_root = mint.root("OldRoot", extensions="")
    same("v1_root_as_anchor", mint.signed(old_root, "under-old"), OK, tls={"root_ca_cert_path": old_root.certificate})
    v1_middle = mint.signed(ours, "v1-middle", "", subject="/O=Ours/CN=v1-middle")
    same("v1_intermediate", mint.signed(v1_middle, "under-v1"), "tls_cert_version", chain=v1_middle.certificate, says="version")
    clerk = mint.signed(ours, "clerk", "basicConstraints=CA:FALSE", subject="/O=Ours/CN=clerk")
    same("intermediate_that_is_no_ca", mint.signed(clerk, "under-clerk"), "tls_unknown_ca", chain=clerk.certificate, says="not a CA")
    plain = mint.signed(ours, "plain", "keyUsage=keyCertSign", subject="/O=Ours/CN=plain")
    same("intermediate_without_constraints", mint.signed(plain, "under-plain"), "tls_unknown_ca", chain=plain.certificate, says="not a CA")

    def named(name, sans, code, says):
        identity = mint.signed(ours, name, f"{sans}\nextendedKeyUsage=serverAuth", subject="/CN=localhost")
        same(name, identity, code, says=says)

    named("common_name_only", "basicConstraints=CA:FALSE", "tls_cn_only", "ignored")
    named("common_name_and_e_mail_only", "subjectAltName=email:a@b.test", "tls_cn_only", "ignored")
    by_address = {"url": "https://127.0.0.1:{port}/mcp"}
    for name, sans, subject, code, says in [
        ("address_in_the_common_name", "basicConstraints=CA:FALSE", "/CN=127.0.0.1", "tls_cn_only", "127.0.0.1"),
        ("address_as_dns_name", "subjectAltName=DNS:127.0.0.1", "/CN=a", "tls_hostname_mismatch", "counts only as an IP address"),
    ]:
        same(name, mint.signed(ours, name, f"{sans}\nextendedKeyUsage=serverAuth", subject=subject), code, says=says, more=by_address)
    named("dot_at_the_end", "subjectAltName=DNS:localhost.", "tls_hostname_mismatch", "dot at its end")
    wild = mint.signed(ours, "wild", "subjectAltName=DNS:*.test")
    same("wildcard_of_two_labels", wild, "tls_hostname_mismatch", tls=trust | {"server_name": "good.test"}, says="top-level")

    weak = ("-cipher", "ALL:@SECLEVEL=0")
    same("rsa_1024_leaf", mint.signed(ours, "rsa1024", key=("rsa:1024",)), "tls_weak_key", *weak, says="1024 bits")
    rsa = mint.root("OursRsa", key=("rsa:2048",))
    rsa_trust = {"root_ca_cert_path": rsa.certificate}
    same("sha1_signature", mint.signed(rsa, "sha1", digest="sha1"), "tls_weak_signature", *weak, tls=rsa_trust, says="SHA-1")
    same("rsa_pss_key", mint.signed(ours, "psskey", key=("rsa-pss",)), "tls_no_shared_cipher")
    same("ed448_leaf", mint.signed(ours, "ed448", key=("ed448",)), "tls_no_shared_cipher")
    ed448 = mint.root("OursEd448", key=("ed448",), digest="")
    same("ed448_ca", mint.signed(ed448, "under-ed448", digest=""), "tls_weak_signature", tls={"root_ca_cert_path": ed448.certificate}, says="Ed448")
    pss = mint.root("OursPss", key=("rsa-pss",))
    row("rsa_pss_ca", mint.signed(pss, "under-pss"), "tls_weak_signature", "tls_weak_signature", tls={"root_ca_cert_path": pss.certificate})
    any_use = mint.signed(ours, "any", "subjectAltName=DNS:localhost\nextendedKeyUsage=anyExtendedKeyUsage")
    same("any_usage_only", any_use, "tls_wrong_usage", says="not for servers")
    staple = mint.signed(ours, "staple", f"{SERVER}\ntlsfeature=status_request")
    same("must_staple_without_a_staple", staple, OK, finding="tls_revocation_unknown")
    junk = mint.bundle("junk.pem", ours.certificate, stranger.certificate, middle.certificate, middle.certificate)
    same("junk_order_root_and_duplicates", under, OK, chain=junk, finding="tls_chain_order")

    # What a trust file may look like. The server is a good one, so that only the file decides.
    def filed(name, code, content: str | bytes, says="", finding=None, add=None):
        path = mint.folder / f"trust-{name}.pem"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        tls = {"root_ca_cert_path": path} | (add or {})
        rows[f"trust_file_{name}"] = Row(good_port, code, code, tls, says=says, finding=finding)

    good_port = serve("file_rows", good)
    pem, other = ours.certificate.read_text(), stranger.certificate.read_text()
    der = ours.certificate.with_suffix(".der")
    openssl("x509", "-in", ours.certificate, "-outform", "DER", "-out", der)
    trusted = ours.certificate.with_suffix(".trusted")
    openssl("x509", "-in", ours.certificate, "-trustout", "-out", trusted)
    pkcs7 = ours.certificate.with_suffix(".p7b")
    openssl("crl2pkcs7", "-nocrl", "-certfile", ours.certificate, "-out", pkcs7)
    filed("of_several_with_text_crlf_and_a_key", OK, (f"Company CAs\n{other}{ours.key.read_text()}# ours:\n{pem}").replace("\n", "\r\n"))
    filed("with_a_byte_order_mark", OK, f"\ufeff{pem}")
    filed("in_der", OK, der.read_bytes())
    damaged = pem.splitlines()
    damaged[1] = "*" + damaged[1][1:]
    filed("with_one_bad_certificate", "local_invalid", other + "\n".join(damaged) + "\n" + pem, says="certificate 2")
    filed("of_openssls_own_form", "local_invalid", trusted.read_bytes(), says="TRUSTED CERTIFICATE")
    filed("in_pkcs7", "local_invalid", pkcs7.read_bytes(), says="PKCS#7")
    filed("that_is_empty", "local_invalid", "", says="empty")
    filed("that_was_cut_short", "local_invalid", pem[: len(pem) // 2], says="no END line")
    filed("row_21_with_only_a_key", "local_invalid", good.key.read_bytes(), says="no certificate", add={"include_system_cas": True})
    mismatched = {"client_cert_path": good.certificate, "client_key_path": own.key}
    filed("row_39_and_a_key_of_another_certificate", "local_key_mismatch", pem, says="does not belong", add=mismatched)

    # What is shared.
    rsa_good = mint.signed(rsa, "rsa-good", key=("rsa:2048",))
    for name, cipher in [("cbc_only", "ECDHE-RSA-AES256-SHA384"), ("dhe_only", "DHE-RSA-AES256-GCM-SHA384"), ("static_rsa", "AES256-GCM-SHA384")]:
        same(name, rsa_good, "tls_no_shared_cipher", "-tls1_2", "-cipher", cipher, tls=rsa_trust)
    same("group_x448_only", good, "tls_no_shared_cipher", "-groups", "X448")
    same("group_p521_only", good, "tls_no_shared_cipher", "-groups", "P-521")
    same("row_28_tls_11_only", rsa_good, "tls_protocol_version", "-tls1_1", *weak, tls=rsa_trust)
    same("row_28_tls_12_below_min_version", good, "tls_protocol_version", "-tls1_2", tls=trust | {"min_version": "1.3"})
    same("row_30_alpn", good, "tls_alpn", "-alpn", "h2")
    same("row_31_unknown_name", good, "tls_sni_unknown", "-servername", "elsewhere.test", "-servername_fatal", *("-cert2", good.certificate, "-key2", good.key))

    # Client certificates, with both versions.
    client_use = "extendedKeyUsage=clientAuth"
    identities = {
        "none": None,
        "stranger": mint.signed(stranger, "client-stranger", client_use),
        "wrong_usage": mint.signed(ours, "client-server", "extendedKeyUsage=serverAuth"),
        "good": mint.signed(ours, "client-good", client_use),
    }

    def shown(identity):
        return trust | ({"client_cert_path": identity.certificate, "client_key_path": identity.key} if identity else {})

    codes = {"none": "tls_client_cert_required", "good": OK}
    for kind, identity in identities.items():
        for version in ("1_2", "1_3"):
            name = f"rows_22_to_26_client_{kind}_tls{version}"
            words = ("-Verify", "2", "-verify_return_error", "-CAfile", ours.certificate, f"-tls{version}")
            same(name, good, codes.get(kind, "tls_client_cert_rejected"), *words, tls=shown(identity))

    # nginx says it in HTTP, HAProxy in TLS.
    site = f"ssl_certificate {good.certificate}; ssl_certificate_key {good.key};"
    demands = f"{site} ssl_client_certificate {ours.certificate}; ssl_verify_client on;"
    ports = stack.enter_context(
        nginx(folder, {"demands": ("ssl", demands), "rejects": ("ssl default_server", "ssl_reject_handshake on;"), "plain": ("", ""), "h2": ("ssl", site)})
    )
    required, rejected = "tls_client_cert_required", "tls_client_cert_rejected"
    rows["row_27_nginx_client_none"] = Row(ports["demands"], OK, required, trust, finding=required)
    rows["row_27_nginx_client_stranger"] = Row(ports["demands"], OK, rejected, shown(identities["stranger"]), finding=rejected)
    rows["row_27_nginx_client_good"] = Row(ports["demands"], OK, OK, shown(identities["good"]))
    rows["row_31_nginx_reject_handshake"] = Row(ports["rejects"], "tls_sni_unknown", "tls_sni_unknown", trust)
    https_of_nginx = ports["h2"]
    rows["row_34_nginx_plain_http"] = Row(ports["plain"], "tls_not_tls", "tls_not_tls", trust, says="HTTP")
    pem = mint.bundle("haproxy.pem", good.certificate, good.key)
    crt = f"ssl crt {pem}"
    ports = stack.enter_context(
        haproxy(
            folder,
            {
                "demands": f"{crt} ca-file {ours.certificate} verify required",
                "demands12": f"{crt} ca-file {ours.certificate} verify required ssl-max-ver TLSv1.2",
                "strict": f"{crt} strict-sni",
            },
        )
    )
    for end in ("", "12"):
        for kind, identity in identities.items():
            code = codes.get(kind, rejected)
            rows[f"rows_22_to_26_haproxy{end}_client_{kind}"] = Row(ports[f"demands{end}"], code, code, shown(identity))
    # http:// in the URL, and TLS on the port.
    plainly = {"more": {"url": "http://localhost:{port}/mcp"}}
    # This one neither answers nor hangs up.
    rows["row_35_http_to_openssl"] = Row(good_port, None, None, {}, **plainly)
    rows["row_35_http_to_nginx"] = Row(https_of_nginx, None, "protocol", {}, **plainly)
    rows["row_35_http_to_haproxy"] = Row(ports["strict"], None, "protocol", {}, **plainly)
    elsewhere = trust | {"server_name": "elsewhere.test"}
    rows["row_31_haproxy_strict_sni"] = Row(ports["strict"], "tls_sni_unknown", "tls_sni_unknown", elsewhere)
    rows["row_37_closed_port"] = Row(free_port(), "refused", "refused", trust)
    return rows


def toml(value) -> str:
    return json.dumps(value if isinstance(value, bool | int) else str(value))


@pytest.fixture(scope="module")
def told(folder):
    """For each row: what ten probes said, and what traffic said."""
    place = folder / "tls-table"
    place.mkdir()
    with ExitStack() as stack:
        rows = openssl_rows(stack, place)
        text = ""
        for name, row in rows.items():
            url = row.more.get("url", "https://localhost:{port}/mcp").format(port=row.port)
            lines = "".join(f"{key} = {toml(value)}\n" for key, value in row.tls.items())
            table = f"[mcp.servers.{name}.tls]\n{lines}" if row.tls else ""
            text += f'[mcp.servers.{name}]\nurl = "{url}"\nconnect_timeout = "3s"\nlist_timeout = "1s"\n{table}\n'
        config = place / "nexus.toml"
        config.write_text(text)

        def nexus(code, *words):
            done = subprocess.run([NEXUS, "--config", config, "--log", "off", *words, "--format", "json"], capture_output=True, text=True, check=False)
            assert done.returncode == code, f"{words}: {done.returncode}\n{done.stderr}"
            return {entry["name"]: entry for entry in json.loads(done.stdout)["upstreams"]}

        probes = [nexus(1, "tls", "probe") for _ in range(TIMES)]
        # Files that cannot be used are problems of the configuration.
        yield rows, probes, nexus(64, "check", "--connect")


def probed(rows: dict) -> list:
    return [(name, row) for name, row in rows.items() if row.probe]


def cause(report: dict) -> str:
    return next((finding["code"] for finding in report["findings"] if finding["severity"] == "error"), OK)


def test_the_prober_names_every_row_ten_times_of_ten(told):
    rows, probes, _ = told
    wrong = {}
    for name, row in probed(rows):
        said = [cause(report[name]) for report in probes]
        if said != [row.probe] * TIMES:
            wrong[name] = (row.probe, said, probes[0][name]["findings"])
    assert wrong == {}


def test_what_is_only_noticed_is_among_the_findings(told):
    rows, probes, _ = told
    wrong = {}
    for name, row in probed(rows):
        codes = [finding["code"] for finding in probes[0][name]["findings"]]
        if row.finding and row.finding not in codes:
            wrong[name] = (row.finding, codes)
    assert wrong == {}


def test_the_deciding_detail_says_what_it_is(told):
    rows, probes, _ = told
    wrong = {}
    for name, row in probed(rows):
        details = " ".join(finding["detail"] for finding in probes[0][name]["findings"] if finding["code"] == row.probe)
        if row.says not in details:
            wrong[name] = (row.says, details)
    assert wrong == {}


def test_every_finding_has_a_remedy(told):
    _, probes, _ = told
    assert [finding for report in probes[0].values() for finding in report["findings"] if not finding["remedy"]] == []


def test_traffic_names_every_row_that_it_can_know(told):
    rows, _, connected = told
    wrong = {}
    for name, row in rows.items():
        reason = connected[name]["reason"]
        about_tls = bool(reason) and (reason.startswith(("tls_", "local_")) or reason in ("refused", "connect_timeout", "unreachable"))
        if (row.traffic == OK and about_tls) or (row.traffic not in (OK, None) and reason != row.traffic):
            wrong[name] = (row.traffic, reason, connected[name]["detail"])
    assert wrong == {}
