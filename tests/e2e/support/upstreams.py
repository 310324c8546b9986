"""The upstreams that the clients meet: how each is started, what the gateway is told about it, what it must answer."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .certificates import Authority, Identity
from .fixture import fixture
from .paths import EVERYTHING, FIXTURE, NODE, NODE_MODULES, PEERS, PYTHON_LEGACY, PYTHON_MODERN
from .processes import accepts, free_port, running


@dataclass
class Upstream:
    """`table` is its part of nexus.toml; `direct` is how a client reaches it without the gateway (None: it cannot)."""

    name: str
    table: dict
    direct: list | None
    eras: frozenset
    calls: list  # (tool, arguments, text of the answer)
    reads: list = field(default_factory=list)  # (uri, text)
    gets: list = field(default_factory=list)  # (prompt, arguments, text)


LEGACY, MODERN = frozenset({"legacy"}), frozenset({"modern"})
BOTH = LEGACY | MODERN

FIXTURE_READS = [("test://static-text", "This is the content of the static text resource.")]
FIXTURE_GETS = [("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"}, "Prompt with arguments: arg1='one', arg2='two'")]


class Upstreams:
    """All of them, running until the stack is closed."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.stack = folder, stack
        self.authority = Authority(folder, "company-ca")
        self.server_identity = self.authority.server("server")
        self.client_identity = self.authority.client("nexus-client")
        self.all = [
            self.everything_stdio(),
            self.everything_http(),
            self.fastmcp(),
            self.behind_nginx(),
            self.python_old(),
            self.typescript("ts_new", BOTH, "stateless"),
            self.typescript("ts_modern", MODERN, "reject"),
            self.rmcp("rmcp_legacy", LEGACY, "--legacy-only"),
            self.rmcp("rmcp_modern", MODERN, "--modern-only"),
            self.rmcp_stdio(),
        ]

    def named(self, name: str) -> Upstream:
        return next(upstream for upstream in self.all if upstream.name == name)

    def start(self, name: str, command, port: int, **environment: str):
        process = self.stack.enter_context(running(command, self.folder / f"{name}.log", **environment))
        process.until(lambda: accepts(port), 30, f"listened on port {port}")

    def everything_stdio(self) -> Upstream:
        command = [str(NODE), str(EVERYTHING), "stdio"]
        return Upstream("everything_stdio", {"cmd": command}, command, LEGACY, *everything())

    def everything_http(self) -> Upstream:
        port = free_port()
        self.start("everything_http", [NODE, EVERYTHING, "streamableHttp"], port, PORT=str(port))
        url = f"http://127.0.0.1:{port}/mcp"
        return Upstream("everything_http", {"url": url}, [url], LEGACY, *everything())

    def everything_sse(self) -> Upstream:
        """Over the two endpoints of 2024-11-05. Not among `all`."""
        port = free_port()
        self.start("everything_sse", [NODE, EVERYTHING, "sse"], port, PORT=str(port))
        url = f"http://127.0.0.1:{port}/sse"
        return Upstream("everything_sse", {"url": url}, None, LEGACY, *everything())

    def fastmcp(self) -> Upstream:
        port = free_port()
        identity = self.server_identity
        self.start("fastmcp", [PYTHON_MODERN, PEERS / "server-fastmcp.py", port, identity.certificate, identity.key], port)
        url = f"https://localhost:{port}/mcp"
        table = {"url": url, "tls": {"root_ca_cert_path": self.authority.certificate}}
        calls = [("add", {"a": 20, "b": 22}, "42")]
        gets = [("greeting", {"name": "Ada"}, "Say hello to Ada.")]
        return Upstream("fastmcp", table, [url], BOTH, calls, [("fast://status", "all is well")], gets)

    def behind_nginx(self) -> Upstream:
        inner, port = free_port(), free_port()
        self.start("python_new", [PYTHON_MODERN, PEERS / "server-py-new.py", inner], inner)
        nginx(self, port, inner)
        table = {
            "url": f"https://localhost:{port}/mcp",
            "tls": {
                "root_ca_cert_path": self.authority.certificate,
                "client_cert_path": self.client_identity.certificate,
                "client_key_path": self.client_identity.key,
            },
        }
        calls = [("shout", {"text": "hush"}, "HUSH"), ("peer", {}, "CN=nexus-client")]
        return Upstream("behind_nginx", table, None, BOTH, calls, [("inner://motto", "behind mutual TLS")])

    def python_old(self) -> Upstream:
        port = free_port()
        self.start("python_old", [PYTHON_LEGACY, PEERS / "server-py-old.py", port], port)
        url = f"http://127.0.0.1:{port}/mcp"
        gets = [("farewell", {"name": "Ada"}, "Say goodbye to Ada.")]
        return Upstream("python_old", {"url": url}, [url], LEGACY, [("double", {"number": 21}, "42")], gets=gets)

    def typescript(self, name: str, eras: frozenset, legacy: str) -> Upstream:
        port = free_port()
        self.start(name, [NODE, PEERS / "server-ts-new.mjs", port, legacy], port, PEER_MODULES=str(NODE_MODULES))
        url = f"http://127.0.0.1:{port}/mcp"
        calls = [("reverse", {"text": name}, name[::-1]), ("sum", {"numbers": [1, 2, 39]}, "42")]
        reads, gets = [(f"ts-{legacy}://about", "a server in TypeScript")], [("toast", {"name": "Ada"}, "To Ada!")]
        return Upstream(name, {"url": url}, [url], eras, calls, reads, gets)

    def rmcp(self, name: str, eras: frozenset, *flags: str) -> Upstream:
        url = self.stack.enter_context(fixture(self.folder / f"{name}.log", *flags))
        calls = [("echo", {"text": f"to {name}"}, f"to {name}"), ("add", {"a": 1, "b": 2}, "3")]
        # Both serve the same URIs; the first in the file answers for them.
        return Upstream(name, {"url": url}, [url], eras, calls, FIXTURE_READS, FIXTURE_GETS)

    def rmcp_stdio(self) -> Upstream:
        command = [str(FIXTURE), "--stdio"]
        calls = [("echo", {"text": "to a child"}, "to a child")]
        return Upstream("rmcp_stdio", {"cmd": command}, command, BOTH, calls, [], FIXTURE_GETS)


def everything() -> tuple:
    calls = [("echo", {"message": "hi"}, "Echo: hi"), ("get-sum", {"a": 2, "b": 3}, "The sum of 2 and 3 is 5.")]
    gets = [("args-prompt", {"city": "Delft"}, "What's weather in Delft?")]
    return calls, [("demo://resource/static/document/features.md", "# Everything Server - Features")], gets


def nginx(upstreams: Upstreams, port: int, inner: int):
    """Terminates mutual TLS on `port` and passes requests on to `inner`."""
    folder = upstreams.folder / "nginx"
    folder.mkdir()
    identity: Identity = upstreams.server_identity
    (folder / "nginx.conf").write_text(
        f"""
        daemon off;
        worker_processes 1;
        pid {folder}/nginx.pid;
        error_log stderr;
        events {{ worker_connections 256; }}
        http {{
            access_log {folder}/access.log;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {identity.certificate};
                ssl_certificate_key {identity.key};
                ssl_client_certificate {upstreams.authority.certificate};
                ssl_verify_client on;
                location / {{
                    proxy_pass http://127.0.0.1:{inner};
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_set_header X-Client-Subject $ssl_client_s_dn;
                    proxy_buffering off;
                    proxy_read_timeout 10m;
                }}
            }}
        }}
        """
    )
    upstreams.start("nginx", ["nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"], port)
