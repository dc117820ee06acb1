"""NATS JetStream with file storage and a sync per message, as a contender of durable.py: started, fed, stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SERVER = "nats-server"
CURE = "apt install nats-server; pip install nats-py"
BODY = b"x" * 420  # as long as our message
CONFIG = """
port: {port}
jetstream {{ store_dir: "{folder}"{sync} }}
"""
SYNC = ", sync_interval: always"


def is_installed() -> bool:
    """Whether server and client are here."""
    try:
        import nats  # noqa: F401
    except ImportError:
        return False
    return shutil.which(SERVER) is not None


def syncs_each() -> bool:
    """Whether this server can sync before it acknowledges (2.10 and later); an older one syncs every two minutes."""
    words = subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True).stdout.split("v")
    return tuple(int(part) for part in words[-1].strip().split(".")[:2]) >= (2, 10)


async def emit(port: int, emitters: int, seconds: float) -> tuple[int, float]:
    """So many tasks, each waiting for the acknowledgement of its message before the next."""
    import nats

    connection = await nats.connect(f"nats://127.0.0.1:{port}", connect_timeout=5, allow_reconnect=False)
    stream = connection.jetstream()
    await stream.add_stream(name="flags", subjects=["flags"])
    counts = [0] * emitters
    begin_s = time.perf_counter()

    async def one(index: int) -> None:
        while time.perf_counter() - begin_s < seconds:
            await stream.publish("flags", BODY, timeout=10)
            counts[index] += 1

    await asyncio.gather(*(one(index) for index in range(emitters)))
    span_s = time.perf_counter() - begin_s
    await connection.close()
    return sum(counts), span_s


def _wait_until_it_listens(port: int) -> None:
    deadline_s = time.perf_counter() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.perf_counter() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def main() -> None:
    """Print `ready`, then `result` and JSON, as the other contenders do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emitters", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = Path(folder) / "nats.conf"
        config.write_text(CONFIG.format(port=port, folder=folder, sync=SYNC if syncs_each() else ""))
        server = subprocess.Popen([SERVER, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_it_listens(port)
            print("ready", flush=True)
            count, span_s = asyncio.run(emit(port, given.emitters, given.seconds))
            print("result " + json.dumps([count, span_s, 0]), flush=True)
        finally:
            server.terminate()
            server.wait(10)


if __name__ == "__main__":
    main()
