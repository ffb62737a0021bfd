"""Kernels of report runs: private sockets, one name each."""

from __future__ import annotations

from pathlib import Path

import pytest

from aftersales.publish import kernels
from aftersales.publish.kernels import PrivateKernelManager


def test_two_kernels_started_in_one_folder_never_share_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "jupyter_runtime_dir", lambda: "/x" * 5)
    monkeypatch.setattr(kernels.Path, "mkdir", lambda *_, **__: None)
    first, second = PrivateKernelManager(), PrivateKernelManager()
    assert {first.transport, second.transport} == {"ipc"}
    assert first.ip != second.ip
    assert first.ip.startswith("/x/x/x/x/x/kernel-")


def test_a_folder_too_long_for_sockets_gives_an_ordinary_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "jupyter_runtime_dir", lambda: "/long" * 20)
    assert PrivateKernelManager().transport == "tcp"
