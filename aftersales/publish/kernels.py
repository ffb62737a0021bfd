"""Kernels of report runs: they speak through files only this user can read, not through network ports."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir

LONGEST_SOCKET_FOLDER = 60
"""A socket's whole path holds about 100 bytes, of which the kernel's own name takes the rest."""


class PrivateKernelManager(AsyncKernelManager):
    """A kernel reached through local sockets: no ports to clash, nothing readable for other users of the machine.

    Each kernel has sockets of its own name: Jupyter's default name is the same for all that run in one folder.
    Where the system has no such sockets, or their folder's name is too long for one, it is an ordinary kernel.
    """

    def __init__(self, **options: object) -> None:
        folder = Path(jupyter_runtime_dir())
        if os.name == "posix" and len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = folder / f"kernel-{uuid.uuid4().hex[:12]}.json"
            options = {"transport": "ipc", "connection_file": str(name), **options}
        super().__init__(**options)
