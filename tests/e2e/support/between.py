"""Plays a client scenario of the conformance suite with the gateway in between: FOLDER --mode legacy|modern URL-OF-THE-MOCK."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.gateway import Gateway  # noqa: E402
from support.paths import NODE, PEERS  # noqa: E402

folder, *words, url = sys.argv[1:]
nexus = Gateway({"mock": {"url": url, "prefix": ""}}, Path(folder) / os.environ["MCP_CONFORMANCE_SCENARIO"] / "gateway")
try:
    # A mock may refuse the first request, so that the upstream comes up at the second attempt.
    nexus.process.until(lambda: nexus.states().get("mock", ("",))[0] in ("up", "degraded"), 20, "saw the mock come up")
    client = [NODE, PEERS / "client-conformance.mjs", *words, nexus.url]
    sys.exit(subprocess.run([str(word) for word in client], check=False, timeout=25).returncode)
finally:
    nexus.stop()
