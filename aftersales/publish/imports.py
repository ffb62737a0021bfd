"""Imports that would cost a page or a report a second for nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

GRAMMAR = "rfc3987_syntax"


@contextlib.contextmanager
def without_address_grammar() -> Iterator[None]:
    """Import Altair, Papermill and others that need jsonschema in here.

    When it is loaded, jsonschema builds a grammar of all international addresses, which takes longer than the rest of
    Altair, for a format nobody here asks it to check. It does without where that package is absent.
    """
    hide = GRAMMAR not in sys.modules
    if hide:
        sys.modules[GRAMMAR] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            sys.modules.pop(GRAMMAR, None)
