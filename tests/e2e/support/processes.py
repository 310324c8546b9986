"""Child processes that are always ended, with their output in files."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path


class Failed(AssertionError):
    """A process did not do what it was started for. Its message carries the end of the log."""


class Process:
    """One child in a process group of its own; `log` gets stdout and stderr."""

    def __init__(self, command, log: Path, **environment: str):
        self.log = log
        self.name = log.stem
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, ready, seconds: float, what: str):
        """Polls `ready` until it returns something true, and returns that."""
        end = time.monotonic() + seconds
        while True:
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode} before it {what}:\n{self.tail()}")
            found = ready()
            if found:
                return found
            if time.monotonic() > end:
                raise Failed(f"{self.name} never {what} within {seconds} s:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def descendants(self) -> set:
        """Every living process below this one."""
        return descendants(self.child.pid)

    def stop(self, seconds: float = 10) -> int:
        """SIGTERM, then SIGKILL to whatever of it is left. Returns the exit code."""
        below = self.descendants()
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                below |= self.descendants()
                self.child.kill()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return self.child.wait()


def descendants(pid: int) -> set:
    """Every living process below `pid`."""
    found = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = {int(child) for child in children.read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in below:
            found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition, seconds: float) -> bool:
    """Polls until the condition holds; whether it ever did."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def running(command, log: Path, **environment: str):
    process = Process(command, log, **environment)
    try:
        yield process
    finally:
        process.stop()


def free_port() -> int:
    """A port that was free a moment ago, for servers that cannot report the one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port: int) -> bool:
    """Whether something listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
