"""The embedded Prefect server: a process of its own that lives as long as the run it serves, however that ends.

Prefect could start one itself, but only after this process had imported the whole server too, which takes seconds. Here
it starts while this process imports other things. `python -m flows.embedded_server` is the server's process: it writes
its port to standard output, and ends when its standard input does, which the kernel closes with the run's process.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from functools import cached_property
from typing import ClassVar

from compression.errors import UserError
from flows.start_up import collector_paused

_START_SECONDS = 120.0
_STOP_SECONDS = 5.0
# A server that lives as long as one run needs no browser interface.
_SERVER_ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


class EmbeddedServer:
    """A server process of this process; one is enough, and it ends with it."""

    _running: ClassVar["EmbeddedServer | None"] = None

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.embedded_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_SERVER_ENVIRONMENT},
            start_new_session=True,  # a terminal's Ctrl-C must not end it before the run has told it how it ended
        )
        # Functions registered later run earlier: Prefect's own, which send what is left, come before this one.
        atexit.register(self.stop)

    @classmethod
    def start(cls) -> "EmbeddedServer":
        """Start the server of this process, or find it running; does not wait until it answers.

        Returns:
            The server.
        """
        cls._running = cls._running or cls()
        return cls._running

    @classmethod
    def runs(cls) -> bool:
        """Whether this process has a server."""
        return cls._running is not None

    @cached_property
    def address(self) -> str:
        """Address of the server's API; it listens at once, and answers when it is ready."""
        port = self._process.stdout.readline().decode().strip() if self._process.stdout else ""
        return f"http://127.0.0.1:{port}/api"

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            UserError: it ended, or did not answer for two minutes.
        """
        try:
            urllib.request.urlopen(f"{self.address}/health", timeout=_START_SECONDS).close()  # noqa: S310 - ours
        except (OSError, ValueError) as error:
            self.stop()
            raise UserError(
                f"Prefect's embedded server did not start ({error}; exit code {self._process.returncode}); "
                "`prefect server start` says more, and one started so is used instead"
            ) from error

    def stop(self) -> None:
        """End the server, which first writes down what it was told."""
        type(self)._running = None
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _end_with_parent() -> None:
    """End this process when standard input ends: the parent never writes, it dies."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until the parent is gone or says so."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    os.dup2(2, 1)  # whatever else is printed is for people
    with collector_paused():
        import uvicorn
        from prefect.server.api.server import create_app

        server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", lifespan="on"))
    server.run([listening])


if __name__ == "__main__":
    main()
