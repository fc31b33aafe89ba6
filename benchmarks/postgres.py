"""A PostgreSQL server of one's own for as long as it is needed: loopback, a free port, a temporary folder.

Needs the programs of Debian's package `postgresql` (or any initdb and postgres on the PATH). As root, which
PostgreSQL refuses, it runs as the user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Return the folder of initdb and postgres, or None if they are not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    found = shutil.which("initdb") or (str(debian[-1]) if debian else None)
    return None if found is None else Path(found).parent


@contextmanager
def server() -> Iterator[str]:
    """Start a server and yield the URL of its database, as a ledger takes it.

    Raises:
        RuntimeError: PostgreSQL is not installed, or does not start.
    """
    folder = programs()
    if folder is None:
        raise RuntimeError("PostgreSQL is not installed; Debian's package is `postgresql`")
    with tempfile.TemporaryDirectory(prefix="daelab-postgres-") as root, socket.socket() as free:
        data, user = Path(root) / "data", _user()
        shutil.chown(root, user)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        _run(user, str(folder / "initdb"), "-D", str(data), "-U", "daelab", "-A", "trust", "-E", "UTF8", "--no-sync")
        command = [str(folder / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", root]
        with (Path(root) / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "-c", "max_connections=200"], stdout=log, stderr=log, user=user, group=_group(user), cwd="/"
            )
        try:
            _wait(process, port, Path(root) / "log")
            yield f"postgresql://daelab@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(30)


def _user() -> str:
    return "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _run(user: str, *command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, user=user, group=_group(user), cwd="/"
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {log.read_text(errors='replace')[-500:]}")
        # the log says it is ready only after the port is open
        if b"ready to accept connections" in log.read_bytes():
            return
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not listen on port {port} within a minute")
