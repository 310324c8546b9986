"""Real redis-servers that keep nothing on disk: one alone, a primary with a replica and their Sentinels, or a cluster."""

import re
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.certificates import Authority, Identity
from support.paths import ROOT
from support.processes import Process, free_port

HOST = "127.0.0.1"
# A user with exactly the rights that docs/scaling.md names, and how a URL names it.
USER, WHO = "nexus", "nexus:of+the/gateway"
WHO_IN_URL = "nexus:of+the%2Fgateway"


def rights(kind: str) -> list:
    """Words for the command line of a server. `kind`: what the line in docs/scaling.md is for."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    (line,) = re.findall(rf"^ *ACL SETUSER {USER} (.*?) *# .*{kind}", text, re.MULTILINE)
    return ["--user", USER, *line.replace("PASSWORD", WHO.split(":")[1]).split()]


class Tls:
    """What servers and clients show one another, of one private CA. Servers demand a client certificate."""

    def __init__(self, folder: Path):
        self.authority = Authority(folder, "redis-ca")
        # For both sides, because servers are one another's clients.
        both = "subjectAltName = DNS:redis.corp.test,IP:127.0.0.1\nextendedKeyUsage = serverAuth,clientAuth"
        self.server: Identity = self.authority.issue("redis", "redis", both)
        self.client: Identity = self.authority.client("nexus")

    @property
    def of_server(self) -> list:
        own, ca = self.server, self.authority.certificate
        return ["--tls-cert-file", own.certificate, "--tls-key-file", own.key, "--tls-ca-cert-file", ca]

    @property
    def of_cli(self) -> list:
        mine = self.client
        return ["--tls", "--cacert", self.authority.certificate, "--cert", mine.certificate, "--key", mine.key]

    @property
    def table(self) -> dict:
        """The `tls` table of a client."""
        client = {"client_cert_path": self.client.certificate, "client_key_path": self.client.key}
        return {"root_ca_cert_path": self.authority.certificate, "server_name": "redis.corp.test", **client}


class Redis:
    """One server on a port that it keeps. `arguments`: further words for its command line."""

    kind = "redis"

    def __init__(self, place: Path, *arguments, tls: Tls | None = None, password: str = ""):
        place.mkdir(parents=True)
        self.place, self.tls, self.password, self.port = place, tls, password, free_port()
        ports = ["--port", "0", "--tls-port", self.port, *tls.of_server] if tls else ["--port", self.port]
        secret = ["--requirepass", password] if password else []
        self.command = ["redis-server", *self.first(), *ports, "--bind", HOST, "--dir", place, *self.further(), *secret, *arguments]
        self.start()

    def first(self) -> list:
        return []

    def further(self) -> list:
        return ["--save", "", "--appendonly", "no"]

    def start(self):
        self.process = Process(self.command, self.place / f"{self.kind}.log")
        self.process.until(self.is_there, 10, "answered")

    def is_there(self) -> bool:
        return "PONG" in self.cli("PING")

    def cli(self, *words) -> str:
        """What `redis-cli` prints."""
        secret = ["-a", self.password, "--no-auth-warning"] if self.password else []
        command = ["redis-cli", "-h", HOST, "-p", self.port, *secret, *(self.tls.of_cli if self.tls else []), *words]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=20)
        return done.stdout.strip()

    def kill(self):
        """As a crash ends it."""
        self.process.child.kill()
        self.process.child.wait()

    def stop(self):
        self.process.stop()

    @property
    def url(self) -> str:
        return self.url_of(f":{self.password}" if self.password else "")

    def url_of(self, who: str) -> str:
        """`who`: `USER:PASSWORD`."""
        return f"{'rediss' if self.tls else 'redis'}://{who}{'@' if who else ''}{HOST}:{self.port}"


@contextmanager
def redis_server(place: Path):
    """A plain one. Gives its URL. `place`: a folder that does not exist yet."""
    server = Redis(place)
    try:
        yield server.url
    finally:
        server.stop()


class Sentinel(Redis):
    """Watches the primary of the name `main`, and lets a replica take its place after a second without an answer."""

    kind = "sentinel"

    def __init__(self, place: Path, primary: Redis, quorum: int, tls: Tls | None = None, password: str = ""):
        self.lines = [
            f"sentinel monitor main {HOST} {primary.port} {quorum}",
            "sentinel down-after-milliseconds main 1000",
            "sentinel failover-timeout main 5000",
            *([f"sentinel auth-pass main {primary.password}"] if primary.password else []),
            *(["tls-replication yes"] if tls else []),
            *([f"sentinel sentinel-pass {password}"] if password else []),
        ]
        # It rewrites its file.
        self.file = place / "sentinel.conf"
        super().__init__(place, tls=tls, password=password)

    def first(self) -> list:
        self.file.write_text("\n".join(self.lines) + "\n")
        return [self.file]

    def further(self) -> list:
        return ["--sentinel"]


class Sentinels:
    """A primary with one replica, and three Sentinels, of which two must agree. All want passwords."""

    def __init__(self, place: Path, stack: ExitStack, tls: Tls):
        password = "of-the-servers"
        # Without a wait for others that may come.
        own = ["--tls-replication", "yes", "--masterauth", password, "--repl-diskless-sync-delay", "0", *rights("Sentinel")]
        server = lambda name, *words: started(stack, Redis(place / name, *own, *words, tls=tls, password=password))
        self.primary = server("primary")
        self.replica = server("replica", "--replicaof", f"{HOST} {self.primary.port}")
        follows = lambda: "master_link_status:up" in self.replica.cli("INFO", "replication")
        self.replica.process.until(follows, 20, "followed the primary")
        self.secret = "of-the-sentinels"
        watch = lambda number: Sentinel(place / f"sentinel-{number}", self.primary, 2, tls, self.secret)
        self.sentinels = [started(stack, watch(number)) for number in range(3)]
        for sentinel in self.sentinels:
            sentinel.process.until(lambda: "OK" in sentinel.cli("SENTINEL", "CKQUORUM", "main"), 30, "knew the other Sentinels")
            knows = lambda: "num-slaves\n1" in sentinel.cli("SENTINEL", "MASTER", "main")
            sentinel.process.until(knows, 30, "knew the replica")

    def cut_off(self):
        """Ends all connections to the primary."""
        self.primary.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def takes_over(self) -> bool:
        """Whether the replica has become the primary, for all that live."""
        asked = [sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main") for sentinel in self.sentinels]
        return all(str(self.replica.port) in answer for answer in asked if answer)

    @property
    def url(self) -> str:
        """Names one of them; the others are found."""
        first = f"rediss-sentinel://{WHO_IN_URL}@{HOST}:{self.sentinels[0].port}"
        return f"{first}?sentinelServiceName=main&sentinelPassword={self.secret}"


class Cluster:
    """Three primaries."""

    def __init__(self, place: Path, stack: ExitStack, tls: Tls):
        self.tls = tls
        own = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--tls-cluster", "yes", *rights("cluster")]
        self.nodes = []
        for number in range(3):
            # The default is 10000 above the port, where there may be no port.
            bus = ["--cluster-port", free_port()]
            self.nodes.append(started(stack, Redis(place / f"node-{number}", *own, *bus, tls=tls)))
        self.manage("create", *(f"{HOST}:{node.port}" for node in self.nodes))
        for node in self.nodes:
            node.process.until(lambda: "cluster_state:ok" in node.cli("CLUSTER", "INFO"), 20, "had joined the cluster")

    def manage(self, *words):
        command = ["redis-cli", *self.tls.of_cli, "--cluster", *words, "--cluster-yes"]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def owner(self, slot: str) -> Redis:
        """The node that has a slot."""
        return next(node for node in self.nodes if node.cli("CLUSTER", "COUNTKEYSINSLOT", slot) != "0")

    def hand_over(self, slot: str):
        """Moves a slot with its keys to another node."""
        source = self.owner(slot)
        target = next(node for node in self.nodes if node is not source)
        ids = {node: node.cli("CLUSTER", "MYID") for node in (source, target)}
        assert target.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source]) == "OK"
        assert source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target]) == "OK"
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", slot, 100).split():
            moved = source.cli("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys)
            assert moved in ("OK", "NOKEY"), moved
        for node in (target, source, *self.nodes):
            assert node.cli("CLUSTER", "SETSLOT", slot, "NODE", ids[target]) == "OK"

    def keys(self) -> list:
        """How many keys each node has."""
        return [int(node.cli("DBSIZE")) for node in self.nodes]

    @property
    def url(self) -> str:
        """Names one node; the others are found."""
        return f"rediss-cluster://{WHO_IN_URL}@{HOST}:{self.nodes[0].port}"


def started(stack: ExitStack, server: Redis) -> Redis:
    stack.callback(server.stop)
    return server
