"""A figure whose sources fall below a gate is refused in words; others are not touched."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import TestWorkspace, csv_text

from aftersales.lake.engine import connect
from aftersales.lake.store import Snapshot, Store
from aftersales.measure.compute import MetricResult, compute
from aftersales.measure.definitions import metric
from aftersales.measure.gates import gates_of
from aftersales.model.settings import Gates

AS_OF = dt.datetime(2024, 12, 31, tzinfo=dt.UTC)
SOURCE = """
    owner: test
    files: data/raw/NAME*.csv
    time_zone: UTC
    tables:
      ticket:
        columns:
          ticket_id: {from: id, prefix: "NAME-"}
          created_at: created
          known_at: created
          region: {from: area, map: {E: East, W: West}, otherwise: blank, on_bad: blank}
          channel: {from: via, map: {p: phone}, otherwise: OTHERWISE}
"""


def load(
    workspace: TestWorkspace, areas: Sequence[str], via: Sequence[str] = (), *, name: str = "crm", month: int = 3,
    otherwise: str = "keep", file: str = "a",
) -> None:  # fmt: skip
    """One ticket a value; `via` in the same order, `p` where it is not given."""
    rows = [
        [f"{file}{i}", f"2024-{month:02d}-{1 + i % 28:02d}", area, via[i] if i < len(via) else "p"]
        for i, area in enumerate(areas)
    ]
    workspace.file(f"{name}_{file}.csv", csv_text(["id", "created", "area", "via"], rows))
    workspace.ingest(workspace.source(SOURCE.replace("NAME", name).replace("OTHERWISE", otherwise), name))


def answer(
    workspace: TestWorkspace, by: Sequence[str] = (), *, gates: Gates | None = None, **window: Any
) -> MetricResult:
    return compute(pin(workspace, gates), "ticket_count", by, as_of=AS_OF, **window)


def pin(workspace: TestWorkspace, gates: Gates | None = None) -> Snapshot:
    place = workspace.open()
    return Store(place.lake).pin(connect(place), gates=gates)


def test_a_figure_by_a_badly_mapped_column_is_refused_with_source_and_column(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 71 + ["?"] * 29)
    found = answer(workspace, ["region"])
    assert found.state == "refused"
    assert found.rows.empty
    assert found.reason == "refused: mapping coverage 71 % < 90 % (source crm, ticket.region: 71 / 100)"
    assert found.refusal("zh") == "拒绝计算:编码映射覆盖率 71 % < 90 %(来源 crm,ticket.region:71 / 100)"
    assert found.summary() == f"Tickets: {found.reason}"


def test_a_figure_that_does_not_use_the_column_is_given(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 71 + ["?"] * 29)
    assert answer(workspace).rows["count"].tolist() == [100]
    assert answer(workspace, ["channel"]).state == "ok"


def test_a_filter_on_the_column_uses_it_too(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 71 + ["?"] * 29)
    assert answer(workspace, where={"region": ["East"]}).state == "refused"


def test_a_value_that_costs_the_row_is_in_every_figure_of_the_table(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 100, ["x"] * 15, otherwise="reject")
    found = answer(workspace)
    assert found.reason == "refused: mapping coverage 85 % < 90 % (source crm, ticket.channel: 85 / 100)"


def test_many_rejected_rows_refuse_every_figure_of_the_table(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 100, ["x"] * 25, otherwise="reject")
    found = answer(workspace, gates=Gates(mapping_coverage=0))
    assert found.reason == "refused: validity 75 % < 80 % (source crm, ticket: 75 / 100)"


def test_only_files_that_feed_the_window_are_judged(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 50, month=3)
    load(workspace, ["?"] * 50, month=6, file="b")
    april = dt.date(2024, 4, 1)
    assert answer(workspace, ["region"], end=april).state == "ok"
    assert answer(workspace, ["region"], start=april).state == "refused"
    assert "ticket.region: 50 / 100" in answer(workspace, ["region"]).reason


def test_a_source_that_brings_next_to_nothing_is_not_judged(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 3970)
    load(workspace, ["?"] * 30, name="tiny")
    assert answer(workspace, ["region"]).state == "ok"
    load(workspace, ["?"] * 30, name="tiny", file="b")
    assert "source tiny, ticket.region: 0 / 60" in answer(workspace, ["region"]).reason


def test_too_few_values_judge_nothing(workspace: TestWorkspace) -> None:
    load(workspace, ["?"] * 29)
    assert answer(workspace, ["region"]).state == "ok"
    load(workspace, ["?"] * 1, file="b")
    assert answer(workspace, ["region"]).state == "refused"


def test_several_breaches_are_counted_and_the_worst_is_named(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 71 + ["?"] * 29, ["x"] * 50, otherwise="blank")
    found = answer(workspace, ["region", "channel"])
    assert (
        found.reason
        == "refused: mapping coverage 50 % < 90 % (source crm, ticket.channel: 50 / 100; 1 more below a gate)"
    )


def test_a_site_sets_its_own_gates_and_a_metric_its_own(
    workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(workspace, ["E"] * 71 + ["?"] * 29)
    assert answer(workspace, ["region"], gates=Gates(mapping_coverage=0.7)).state == "ok"
    strict = metric("ticket_count").model_copy(update={"gates": {"mapping_coverage": 0.5}})
    assert gates_of(pin(workspace), strict)["mapping_coverage"] == 0.5
    assert strict.version == metric("ticket_count").version
    monkeypatch.setattr("aftersales.measure.compute.metric", lambda name: strict)
    assert answer(workspace, ["region"]).state == "ok"


def test_a_mended_mapping_opens_the_gate(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 71 + ["S"] * 29)
    assert answer(workspace, ["region"]).state == "refused"
    text = SOURCE.replace("NAME", "crm").replace("OTHERWISE", "keep").replace("W: West", "W: West, S: South")
    workspace.ingest(workspace.source(text))
    assert answer(workspace, ["region"]).rows[["region", "count"]].to_numpy().tolist() == [["East", 71], ["South", 29]]


def test_values_that_are_kept_on_purpose_are_no_gap(workspace: TestWorkspace) -> None:
    load(workspace, ["E"] * 100, ["x"] * 60, otherwise="keep")
    assert answer(workspace, ["channel"]).rows[["channel", "count"]].to_numpy().tolist() == [["phone", 40], ["x", 60]]
