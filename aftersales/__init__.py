"""The after-sales workbench: data goes in, and out comes the one thing to fix next, why, and whether it worked."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aftersales.attribute.drilldown import drill_down
    from aftersales.improve.effect import describe_before_after
    from aftersales.measure.compute import compute
    from aftersales.model.settings import open_workspace
    from aftersales.publish.pages import open_page

__all__ = ["compute", "describe_before_after", "drill_down", "open_page", "open_workspace"]

__version__ = version("aftersales")

_HOMES = {
    "compute": "aftersales.measure.compute",
    "describe_before_after": "aftersales.improve.effect",
    "drill_down": "aftersales.attribute.drilldown",
    "open_page": "aftersales.publish.pages",
    "open_workspace": "aftersales.model.settings",
}


def __getattr__(name: str) -> Any:
    """Public names load their module on first use: a command that needs no chart library does not wait for one."""
    if name not in _HOMES:
        raise AttributeError(f"module 'aftersales' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
