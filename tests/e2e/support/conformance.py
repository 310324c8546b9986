"""Runs of the public conformance suite and their comparison, check by check."""

import fnmatch
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .fixture import fixture
from .gateway import Gateway
from .paths import E2E, NODE, NODE_MODULES, PEERS

GOOD = {"SUCCESS"}
BAD = {"FAILURE", "WARNING"}
OTHER = {"legacy": "modern", "modern": "legacy"}


@dataclass(frozen=True)
class Server:
    """The suite as a client of the fixture. `flags` make the fixture speak the suite's own era."""

    name: str
    package: str
    arguments: tuple
    era: str
    flags: tuple
    at_least: int

    def direct(self, folder: Path) -> dict:
        with fixture(folder / "fixture.log", *self.flags) as url:
            return self.run(url, folder)

    def through(self, folder: Path) -> dict:
        return self.behind_the_gateway(folder, *self.flags)

    def crossed(self, folder: Path) -> dict:
        return self.behind_the_gateway(folder, f"--{OTHER[self.era]}-only")

    def behind_the_gateway(self, folder: Path, *flags: str) -> dict:
        with ExitStack() as stack:
            url = stack.enter_context(fixture(folder / "fixture.log", *flags))
            nexus = Gateway({"fixture": {"url": url, "prefix": ""}}, folder)
            stack.callback(nexus.stop)
            nexus.settled()
            return self.run(nexus.url.replace("127.0.0.1", "localhost"), folder)

    def run(self, url: str, folder: Path) -> dict:
        suite(self.package, folder, "server", "--url", url, *self.arguments)
        checks = Checks()
        for report in sorted(folder.glob("*/checks.json")):
            checks.add(report.parent.name.removeprefix("server-").rsplit("-", 6)[0], report)
        return checks.found(folder)


@dataclass(frozen=True)
class Client:
    """The suite's mock servers with a real client, one scenario after the other: the gateway as a client of its upstream."""

    name: str
    revision: str
    era: str
    scenarios: tuple
    at_least: int

    def direct(self, folder: Path) -> dict:
        return self.run(folder, [NODE, PEERS / "client-conformance.mjs", "--mode", self.era])

    def through(self, folder: Path) -> dict:
        return self.run(folder, [sys.executable, E2E / "support" / "between.py", folder, "--mode", self.era])

    def crossed(self, folder: Path) -> dict:
        return self.run(folder, [sys.executable, E2E / "support" / "between.py", folder, "--mode", OTHER[self.era]])

    def run(self, folder: Path, command: list) -> dict:
        words = shlex.join(str(word) for word in command)

        def play(scenario: str):
            flags = ("--scenario", scenario, "--spec-version", self.revision)
            suite("conformance-0.2", folder / scenario, "client", "--command", words, *flags)

        with ThreadPoolExecutor(4) as pool:  # each of them mostly waits
            list(pool.map(play, self.scenarios))
        checks = Checks()
        for scenario in self.scenarios:
            for report in (folder / scenario).glob("*/checks.json"):
                checks.add(scenario, report)
        return checks.found(folder)


LEGACY_SCENARIOS = ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry", "json-schema-2020-12-preservation")
MODERN_SCENARIOS = (
    *("tools_call", "request-metadata", "sep-2322-client-request-state", "http-standard-headers", "http-custom-headers"),
    *("http-invalid-tool-headers", "json-schema-ref-no-deref", "json-schema-2020-12-preservation"),
)
SUITES = (
    Server("0.1.16", "conformance-0.1", ("--suite", "all"), "legacy", ("--legacy-only",), 47),
    Server("2025-11-25", "conformance-0.2", ("--requirements", "2025-11-25"), "legacy", ("--legacy-only",), 84),
    Server("2026-07-28", "conformance-0.2", ("--requirements", "2026-07-28"), "modern", (), 196),
    Client("client-2025-11-25", "2025-11-25", "legacy", LEGACY_SCENARIOS, 20),
    Client("client-2026-07-28", "2026-07-28", "modern", MODERN_SCENARIOS, 64),
)


def suite(package: str, folder: Path, *words):
    """Runs it once, with its reports in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [NODE, NODE_MODULES / package / "dist" / "index.js", *words, "-o", folder]
    with (folder / "suite.log").open("wb") as log:
        # The exit code only says whether everything passed, which is judged check by check.
        environment = {**os.environ, "PEER_MODULES": str(NODE_MODULES)}
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=300, check=False, env=environment)


class Checks:
    """scenario/id/name → (status, message). Equal names in one scenario are told apart by their number."""

    def __init__(self):
        self.all, self.seen = {}, Counter()

    def add(self, scenario: str, report: Path):
        for check in json.loads(report.read_text()):
            base = f"{scenario}/{check['id']}/{check['name']}"
            self.seen[base] += 1
            key = base if self.seen[base] == 1 else f"{base}#{self.seen[base]}"
            self.all[key] = (check["status"], check.get("errorMessage") or "")

    def found(self, folder: Path) -> dict:
        if not self.all:
            raise SystemExit(f"the suite reported nothing, see suite.log below {folder}")
        return self.all


def passed(checks: dict) -> int:
    return sum(status in GOOD for status, _ in checks.values())


def judged(checks: dict) -> int:
    return sum(status in GOOD | BAD for status, _ in checks.values())


def bad(checks: dict) -> dict:
    return {key: value for key, value in checks.items() if value[0] in BAD}


def lost(direct: dict, through: dict) -> dict:
    """What passes directly and not through the gateway, and what is bad through it without a counterpart."""
    gone = {}
    for key, (status, _) in direct.items():
        now, message = through.get(key, ("ABSENT", ""))
        if status in GOOD and now not in GOOD:
            gone[key] = (now, message)
    for key, (status, message) in through.items():
        if status in BAD and key not in direct:
            gone[key] = (status, message)
    return gone


@dataclass
class Allowances:
    """A list of checks that may be missing: `suite` (or `*`), `check` (scenario/id/name, may hold `*`) and `why`."""

    path: Path
    entries: list = field(default_factory=list)
    used: set = field(default_factory=set)

    def __post_init__(self):
        self.entries = tomllib.loads(self.path.read_text()).get("missing", [])
        for entry in self.entries:
            if set(entry) != {"suite", "check", "why"} or not all(entry.values()):
                raise SystemExit(f"{self.path.name}: an entry has suite, check and why, not {entry}")

    def reason(self, suite: str, key: str) -> str | None:
        """Why the check may be missing. None: it may not."""
        fits = [index for index, entry in enumerate(self.entries) if covers(entry, suite, key)]
        self.used.update(fits)
        return self.entries[fits[0]]["why"] if fits else None

    def stale(self, ran: set) -> list:
        """Entries that nothing needed, of the suites that ran."""
        suites = lambda entry: {suite.name for suite in SUITES} if entry["suite"] == "*" else {entry["suite"]}
        return [entry for index, entry in enumerate(self.entries) if index not in self.used and suites(entry) <= ran]


def covers(entry: dict, suite: str, key: str) -> bool:
    return entry["suite"] in ("*", suite) and fnmatch.fnmatchcase(key, entry["check"])
