"""Kernels of report runs: they speak through files only this user can read, not through network ports."""

from __future__ import annotations

import os

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir

LONGEST_SOCKET_FOLDER = 45
"""A socket's whole path holds about 100 bytes, of which the kernel's own name takes the rest."""


class PrivateKernelManager(AsyncKernelManager):
    """A kernel reached through local sockets: no ports to clash, nothing readable for other users of the machine.

    Where the system has no such sockets, or their folder's name is too long for one, it is an ordinary kernel.
    """

    def __init__(self, **options: object) -> None:
        local = os.name == "posix" and len(os.fsencode(jupyter_runtime_dir())) <= LONGEST_SOCKET_FOLDER
        super().__init__(**{"transport": "ipc" if local else "tcp", **options})
