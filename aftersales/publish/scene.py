"""A scene: everything the sections of one view need, fixed for one drawing of the page.

Sections are functions of a scene. What several sections need is computed once (`once`), and every metric that was
asked for is noted for the run's record.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.lake.suppression import STATE
from aftersales.measure.compute import MetricResult, Period, compute
from aftersales.model.settings import Workspace
from aftersales.publish.charts import Chart
from aftersales.publish.sidecars import Sidecar, Value

if TYPE_CHECKING:
    from aftersales.attribute.pareto import Pareto

Lang = Literal["en", "zh"]
WITHHELD = "withheld"
"""Column of a table that says which rows have too few cases to be told."""

T = TypeVar("T")
Payload = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """One view of one page."""

    page: str
    workspace: Workspace
    snapshot: Snapshot
    sidecar: Sidecar
    values: Mapping[str, Value]
    lang: Lang
    as_of: dt.datetime
    _memory: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)
    metric_versions: dict[str, str] = field(default_factory=dict, compare=False)

    def say(self, en: str, zh: str) -> str:
        """The text in the reader's language."""
        return zh if self.lang == "zh" else en

    def once(self, name: object, make: Callable[[], T]) -> T:
        """The result of `make`, computed at the first call."""
        if name not in self._memory:
            self._memory[name] = make()
        return cast(T, self._memory[name])

    def text(self, name: str) -> str:
        return str(self.values[name])

    def number(self, name: str) -> int:
        return int(cast(int, self.values[name]))

    def chosen(self, name: str) -> list[str]:
        """The values of a filter; empty: all."""
        return list(cast("list[str]", self.values.get(name, [])))

    def where(self, *names: str, skip: str | None = None) -> dict[str, list[str]]:
        """Filters in force on these dimensions; `skip` keeps a chart's own bars clickable."""
        return {name: self.chosen(name) for name in names if name != skip and self.chosen(name)}

    def metric(
        self,
        name: str,
        by: Sequence[str] = (),
        *,
        where: Mapping[str, Sequence[str]] | None = None,
        start: dt.date | None = None,
        end: dt.date | None = None,
        period: Period | None = None,
    ) -> MetricResult:
        """A metric, computed once per scene; its version is noted for the run."""
        frozen = tuple(sorted((key, tuple(values)) for key, values in (where or {}).items()))
        result = self.once(
            ("metric", name, tuple(by), frozen, start, end, period),
            lambda: compute(
                self.snapshot, name, by, as_of=self.as_of, where=where, start=start, end=end, period=period
            ),
        )
        self.metric_versions[name] = result.metric.version
        return result

    def left_out(self, *results: MetricResult | Pareto) -> Payload | None:
        """A notice of the groups that are too small to be told; None when all are."""
        n = sum(len(result.rows) - len(result.shown) for result in results)
        if not n:
            return None
        least = self.snapshot.smallest
        text = self.say(
            f"{n:,} groups are not shown: one of them has fewer than {least} cases." if n > 1 else
            f"One group is not shown: it has fewer than {least} cases.",
            f"有 {n:,} 个分组未显示:其中有少于 {least} 例者。",
        )  # fmt: skip
        return message("weak", text)

    def withheld(self, columns: Sequence[Payload], rows: pd.DataFrame) -> tuple[list[Payload], pd.DataFrame]:
        """`columns` and `rows` of a table, with a column that names the rows whose figures are withheld, if any are."""
        hidden = rows["state"] == STATE if "state" in rows else pd.Series(False, index=rows.index)
        if not hidden.any():
            return list(columns), rows
        word = self.say(f"fewer than {self.snapshot.smallest}, or beside such a group",
                        f"少于 {self.snapshot.smallest} 例,或与之相邻")  # fmt: skip
        title = self.say("Not shown", "未显示")
        return [*columns, column(WITHHELD, title)], rows.assign(**{WITHHELD: hidden.map({True: word, False: ""})})

    def label(self, value: object) -> str:
        """A code in the reader's words: the names of the workspace's code lists, else the code without underscores."""
        if value is None or value != value:
            return self.say("not stated", "未注明")
        names = self.once("code names", lambda: _code_names(self.workspace))
        text = str(value)
        if text in names:
            return names[text][self.lang]
        return text.replace("_", " ") if text.islower() else text

    def local_text(self, moment: object) -> str:
        """An instant on the site's clock, `2025-12-31 08:00`."""
        if moment is None or pd.isna(moment):  # type: ignore[call-overload]
            return ""
        zone = zoneinfo.ZoneInfo(self.workspace.settings.time_zone)
        return pd.Timestamp(moment).tz_convert(zone).strftime("%Y-%m-%d %H:%M")  # type: ignore[arg-type]


def _code_names(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Code -> names, from the code lists of `data/reference/` that have the columns name_en and name_zh."""
    names: dict[str, dict[str, str]] = {}
    for path in sorted(workspace.reference.glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream):
                if row.get("target_value") and row.get("name_en") and row.get("name_zh"):
                    names[row["target_value"]] = {"en": row["name_en"], "zh": row["name_zh"]}
    return names


def section(scene: Scene, id: str, title: str, **parts: Any) -> Payload:
    """A section payload; parts are message, answer, figures, charts, tables, links, facts.

    `title` names the section for people who do not see it and in messages; the heading and what to look for
    stand in the notebook.
    """
    charts = [chart.payload() if isinstance(chart, Chart) else chart for chart in parts.pop("charts", [])]
    return {
        "kind": "section",
        "id": id,
        "lang": scene.lang,
        "title": None,
        "name": title,
        "lead": None,
        "message": None,
        "answer": None,
        "figures": [],
        "tables": [],
        "links": [],
        "facts": {},
        **parts,
        "charts": charts,
    }


def message(kind: Literal["empty", "refused", "weak", "error"], text: str, detail: str = "", id: str = "") -> Payload:
    """A notice in place of (or above) the figures."""
    return {"kind": kind, "text": text, "detail": detail or None, "id": id or None}


def column(field: str, title: str, kind: str = "text", *, digits: int | None = None) -> Payload:
    """One column of a table."""
    numeric = kind in ("number", "share", "bar")
    return {"field": field, "title": title, "kind": kind, "align": "right" if numeric else "left", "digits": digits}


def table(
    id: str,
    title: str,
    columns: list[Payload],
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    *,
    filter: Payload | None = None,
    sorted_by: str | None = None,
    total: int | None = None,
) -> Payload:
    """A table payload; missing values are None."""
    records = (
        rows.astype(object).where(rows.notna(), None).to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    )
    fields = [item["field"] for item in columns]
    plain = [{name: plain_json(record.get(name)) for name in fields} for record in records]
    return {
        "id": id,
        "title": title,
        "columns": columns,
        "rows": plain,
        "filter": filter,
        "sorted": sorted_by,
        "total": len(plain) if total is None else total,
        "downloads": ["csv", "xlsx"],
    }


def plain_json(value: Any) -> Any:
    """A value JSON has: numpy numbers and dates become plain ones, missing and infinite ones null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
