"""What is loaded, and what is not: seconds of every page and report."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pandas", "numpy", "ibis", "duckdb", "altair", "deltalake", "pyarrow", "scipy", "sqlalchemy", "papermill", "nbconvert", "nbformat", "IPython", "jsonschema")  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Which packages a fresh interpreter has loaded after `code`."""
    asked = (*HEAVY, "rfc3987_syntax", "lark")
    tell = f"import sys; print(*[name for name in {asked!r} if sys.modules.get(name)])"
    answer = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    "module", ["aftersales", "aftersales.cli", "aftersales.publish.sidecars", "aftersales.publish.reports"]
)
def test_a_command_starts_without_the_packages_it_may_not_need(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


def test_a_page_opens_without_altair_and_without_notebook_tools() -> None:
    loaded = loaded_after("import aftersales.publish.pages")
    assert not loaded & {"altair", "nbformat", "nbconvert", "papermill", "jsonschema"}


def test_altair_comes_without_the_grammar_of_addresses_and_leaves_it_to_others() -> None:
    loaded = loaded_after("from aftersales.publish.charts import altair; altair()")
    assert {"altair", "jsonschema"} <= loaded
    assert not loaded & {"rfc3987_syntax", "lark"}
    code = "from aftersales.publish.charts import altair; altair()\nimport rfc3987_syntax"
    assert "rfc3987_syntax" in loaded_after(code)


def test_what_was_loaded_before_stays() -> None:
    code = "import rfc3987_syntax\nfrom aftersales.publish.imports import without_address_grammar\nwith without_address_grammar(): import jsonschema"
    assert {"rfc3987_syntax", "jsonschema"} <= loaded_after(code)


def test_a_load_starts_without_the_libraries_of_analysis() -> None:
    """They are half of the time that a delivery takes which was loaded before."""
    assert not loaded_after("import aftersales.collect.ingest") & {"ibis", "pandas", "scipy", "sqlalchemy"}
