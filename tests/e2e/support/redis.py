"""A real redis-server that keeps nothing on disk."""

from contextlib import contextmanager

from support.processes import free_port, running


@contextmanager
def redis_server(place):
    """Gives its URL. `place`: a folder that does not exist yet."""
    port = free_port()
    place.mkdir(parents=True)
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", place]
    with running(command, place / "redis.log") as server:
        server.until(lambda: "Ready to accept connections" in server.output(), 10, "was ready")
        yield f"redis://127.0.0.1:{port}"
