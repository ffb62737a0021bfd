"""Parameters of a page: what the sidecar allows, how an address or a command line says it, and what is refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import new_workspace

from aftersales.model.errors import ParameterError, SettingsError
from aftersales.publish.sidecars import (
    MAX_TEXT,
    MAX_VALUES,
    Sidecar,
    checked_parameters,
    page_names,
    parameters_from_query,
    query_of,
    read_sidecar,
    sidecars,
    toggled,
)

TITLE = {"en": "T", "zh": "题"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "model": {"type": "texts", "default": []},
    "by": {"type": "text", "default": "supplier"},
    "grain": {"type": "choice", "default": "month", "choices": ["month", "quarter"]},
    "months": {"type": "integer", "default": 12, "minimum": 1, "maximum": 36},
    "level": {"type": "number", "default": 0.5, "minimum": 0.0, "maximum": 1.0},
    "start": {"type": "date", "default": ""},
    "closed_month": {"type": "month", "default": ""},
    "only_open": {"type": "flag", "default": False},
}


def sidecar_of(**parameters: dict[str, Any]) -> Sidecar:
    described = {name: {"title": TITLE, **spec} for name, spec in (parameters or PARAMETERS).items()}
    return Sidecar.model_validate(
        {"title": TITLE, "question": TITLE, "audience": TITLE, "owner": "test", "parameters": described}
    )


SIDECAR = sidecar_of()


# ------------------------------------------------------------------------------------------------- what is allowed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ["L1", "智能锁 & 'x' \"y\" {z} \n 🔒"]),
        ("model", [f"M{n}" for n in range(MAX_VALUES)]),
        ("model", ["x" * MAX_TEXT]),
        ("by", ""),
        ("by", "__import__('os').system('id')"),
        ("grain", "quarter"),
        ("months", 36),
        ("level", 1),
        ("level", 0.25),
        ("start", "2024-02-29"),
        ("closed_month", "2025-12"),
        ("only_open", True),
    ],
)
def test_a_value_of_the_right_type_is_taken_as_it_is(name: str, value: Any) -> None:
    checked = checked_parameters(SIDECAR, {name: value}, page="p")
    assert checked == {**SIDECAR.defaults(), name: value}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("model", "L1", "is no texts"),
        ("model", ["L1", 2], "list of at most 100 texts"),
        ("model", ["x"] * (MAX_VALUES + 1), "list of at most 100 texts"),
        ("model", ["x" * (MAX_TEXT + 1)], "list of at most 100 texts"),
        ("by", 3, "is no text"),
        ("by", "x" * (MAX_TEXT + 1), "longer than 200"),
        ("by", None, "is no text"),
        ("by", ["supplier"], "is no text"),
        ("grain", "year", "none of month, quarter"),
        ("months", "12", "is no integer"),
        ("months", 12.0, "is no integer"),
        ("months", True, "is no integer"),
        ("months", 0, "below 1"),
        ("months", 37, "above 36"),
        ("level", "0.5", "is no number"),
        ("level", False, "is no number"),
        ("level", 1.01, "above 1"),
        ("level", float("nan"), "level"),
        ("level", float("inf"), "level"),
        ("start", "2025-02-29", "no date YYYY-MM-DD"),
        ("start", "20250101", "no date YYYY-MM-DD"),
        ("start", "2025-01-01T00:00", "no date YYYY-MM-DD"),
        ("start", dt.date(2025, 1, 1), "is no date"),
        ("start", "0001-01-01", "no date YYYY-MM-DD"),
        ("start", "9999-12-31", "no date YYYY-MM-DD"),
        ("closed_month", "2025-13", "no month YYYY-MM"),
        ("closed_month", "2025-12\n", "no month YYYY-MM"),
        ("only_open", "true", "is no flag"),
        ("only_open", 1, "is no flag"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused_with_its_reason(name: str, value: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=name) as refused:
        checked_parameters(SIDECAR, {name: value}, page="p")
    assert said in str(refused.value)
    assert "nothing was run" in str(refused.value)


@pytest.mark.parametrize(
    "name", ["x; import os", "__class__", "Model", "型号", "model\n", "model ", "", "model=1", "import", "0model"]
)
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(name: str) -> None:
    with pytest.raises(ParameterError, match=r"known: by, closed_month, grain") as refused:
        checked_parameters(SIDECAR, {name: "1"}, page="p")
    assert refused.value.exit_code == 2


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ParameterError) as refused:
        checked_parameters(SIDECAR, {"months": 0, "grain": "year", "nope": 1}, page="p")
    for said in ("months: 0 is below 1", "grain: 'year'", "no parameter 'nope'"):
        assert said in refused.value.what


def test_a_huge_wrong_value_does_not_fill_the_message() -> None:
    for value in ("9" * 100_000, ["x" * 100_000] * 50):
        with pytest.raises(ParameterError) as refused:
            checked_parameters(SIDECAR, {"months": value}, page="p")
        assert len(str(refused.value)) < 2_000


def test_the_defaults_are_not_shared_between_pages() -> None:
    first = checked_parameters(SIDECAR, {}, page="p")
    assert first == SIDECAR.defaults()
    model = first["model"]
    assert isinstance(model, list)
    model.append("L1")
    assert SIDECAR.defaults()["model"] == []


# ------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("?model=L1&model=L2", {"model": ["L1", "L2"]}),
        ("model=", {"model": []}),
        ("months=24&grain=quarter", {"months": 24, "grain": "quarter"}),
        ("grain=month&grain=quarter", {"grain": "quarter"}),
        ("only_open=true", {"only_open": True}),
        ("only_open=0", {"only_open": False}),
        ("level=0.25", {"level": 0.25}),
        ("model=%E6%B7%B1%E5%9C%B3+%26+%2B+%22%27", {"model": ["深圳 & + \"'"]}),
        ("months=many", {"months": "many"}),
        ("x;import os=1", {"x;import os": "1"}),
    ],
)
def test_an_address_says_typed_values(query: str, values: dict[str, Any]) -> None:
    assert parameters_from_query(SIDECAR, query) == values


@pytest.mark.parametrize(
    "query",
    ["&".join(["model=x"] * 500), "months=" + "9" * 10_000, "months=" + "9" * 400, "%ff%fe=%00", "=&=&&", "level=nan"],
)
def test_no_address_breaks_the_reader(query: str) -> None:
    """It is read or refused: nothing else may come out."""
    try:
        checked_parameters(SIDECAR, parameters_from_query(SIDECAR, query), page="p")
    except ParameterError as refused:
        assert str(refused).startswith(("page p: ", "address: "))  # noqa: PT017
        assert len(str(refused)) < 2_000  # noqa: PT017


def test_the_address_of_the_defaults_is_empty_and_the_order_is_fixed() -> None:
    assert query_of(SIDECAR, SIDECAR.defaults()) == ""
    values = {**SIDECAR.defaults(), "months": 24, "model": ["L2", "L1"], "only_open": True}
    assert query_of(SIDECAR, values) == "model=L2&model=L1&months=24&only_open=true"


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
views = st.fixed_dictionaries(
    {
        "model": st.lists(texts, max_size=5, unique=True),
        "by": texts,
        "grain": st.sampled_from(["month", "quarter"]),
        "months": st.integers(1, 36),
        "level": st.floats(0, 1),
        "start": st.dates(dt.date(1900, 1, 1), dt.date(2199, 12, 31)).map(dt.date.isoformat),
        "closed_month": st.dates(dt.date(1000, 1, 1)).map(lambda day: day.isoformat()[:7]),
        "only_open": st.booleans(),
    }
)


@given(views)
def test_every_view_comes_back_from_its_address(values: dict[str, Any]) -> None:
    address = query_of(SIDECAR, values)
    assert address.isascii()
    assert checked_parameters(SIDECAR, parameters_from_query(SIDECAR, address), page="p") == values


def test_toggling_twice_changes_nothing() -> None:
    values = {"model": ["L1", "L2"]}
    once = toggled(values, "model", "L1")
    assert once == ["L2"]
    assert toggled({"model": once}, "model", "L1") == ["L2", "L1"]
    assert values == {"model": ["L1", "L2"]}, "the caller's list is not changed"


# ---------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"Model": {"type": "text", "default": ""}}, "names are a-z"),
        ({"a b": {"type": "text", "default": ""}}, "names are a-z"),
        ({"a": {"type": "text", "default": 3}}, "default"),
        ({"a": {"type": "choice", "default": "x"}}, "choice needs 'choices'"),
        ({"a": {"type": "choice", "default": "x", "choices": ["y"]}}, "none of y"),
        ({"a": {"type": "integer", "default": 5, "maximum": 4}}, "above 4"),
        ({"a": {"type": "json", "default": ""}}, "Input should be"),
        ({"a": {"type": "text", "default": "", "defualt": "x"}}, "Extra inputs"),
    ],
)
def test_a_sidecar_that_cannot_hold_its_own_default_is_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sidecar_of(**parameters)


def test_pages_are_notebooks_with_a_sidecar_and_a_plain_name(tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    assert page_names(place) == ["catalogue", "improvement_review", "index", "ingestion", "overview", "root_cause"]
    assert list(sidecars(place)) == ["index", "overview", "root_cause", "improvement_review", "ingestion", "catalogue"]
    (place.notebooks / "overview.ipynb").unlink()
    assert "overview" not in page_names(place)
    for name in ("overview", "nope", "../notebooks/index", "index.ipynb", "", "Index", "index\n", "x" * 5000):
        with pytest.raises(ParameterError, match=r"known: catalogue, improvement_review, index") as refused:
            read_sidecar(place, name)
        assert len(str(refused.value)) < 600


def test_a_broken_sidecar_names_its_lines(tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    path = place.notebooks / "index.yml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("owner:", "ownr:").replace("order: 0", "order: first"),
        encoding="utf-8",
    )
    with pytest.raises(SettingsError, match=r"notebooks/index.yml: 3 problems") as refused:
        read_sidecar(place, "index")
    assert "unknown key 'ownr' (did you mean 'owner'?)" in str(refused.value)
    assert "line 5, order" in str(refused.value)
