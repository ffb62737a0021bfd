"""The real sets, each loaded once per test session."""

from __future__ import annotations

import pytest

from real.sets import Sets


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """Loads a set when a test first asks for it: `sets("kia")`."""
    return Sets(tmp_path_factory.mktemp("sets"))
