"""The fixture server of tests/fixture on streamable HTTP."""

import re
from contextlib import contextmanager
from pathlib import Path

from .paths import FIXTURE
from .processes import running


@contextmanager
def fixture(log: Path, *flags: str):
    """Starts it and yields its URL."""
    with running([FIXTURE, *flags], log) as process:
        found = process.until(lambda: re.search(r"listening on (\d+)", process.output()), 10, "listened")
        yield f"http://localhost:{found[1]}/mcp"
