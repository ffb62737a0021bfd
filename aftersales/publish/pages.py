"""A page: one notebook, its sidecar and its sections.

The same notebook is a page in Voila, a report in Papermill and a notebook in JupyterLab; it never asks which. Its
cells call `open_page` once and `page.show(...)` per section. Filters come from the parameters cell, over which lie
those of the page's address, when there is one.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, cast
from urllib.parse import parse_qs

from aftersales.collect.mapping import catalogue
from aftersales.lake.access import snapshot_for
from aftersales.lake.audit import asked
from aftersales.lake.engine import connect
from aftersales.lake.store import Snapshot
from aftersales.lake.viewer import Viewer, resolve_viewer
from aftersales.measure.dimensions import dimension_title, filled_unit_dimensions, find_dimension, with_dimensions
from aftersales.model.errors import AccessError, AftersalesError, MetricError, ParameterError
from aftersales.model.settings import Workspace, open_workspace
from aftersales.model.tables import canonical_tables
from aftersales.publish.board import Board
from aftersales.publish.export import table_to_csv, tables_to_xlsx
from aftersales.publish.scanner import ExposureError, check_exposure
from aftersales.publish.scene import WITHHELD, Lang, Payload, Scene, message, plain_json, section
from aftersales.publish.sidecars import (
    ADDRESS_VARIABLE,
    Sidecar,
    Value,
    checked_parameters,
    parameters_from_query,
    query_of,
    read_sidecar,
    sidecars,
    toggled,
)

MAX_CHOICES = 200

Section = Callable[[Scene], Payload]


def open_page(name: str, given: Mapping[str, object]) -> Page | RefusedPage:
    """The page `name` with the parameters of its notebook.

    Parameters
    ----------
    given
        The notebook's names, `locals()`: those the sidecar lists are taken.

    Raises
    ------
    ParameterError
        A parameter breaks the sidecar.

    A viewer who may not see the page gets one that says so in every section.
    """
    workspace = open_workspace()
    sidecar = read_sidecar(workspace, name)
    values = checked_parameters(sidecar, {key: given[key] for key in sidecar.parameters if key in given}, page=name)
    try:
        viewer = resolve_viewer(workspace)
        _check_reader(sidecar, name, viewer)
        return Page(name, workspace, sidecar, values, os.environ.get(ADDRESS_VARIABLE, ""), viewer)
    except AccessError as error:
        of_address = parse_qs(os.environ.get(ADDRESS_VARIABLE, "").lstrip("?")).get("lang", [""])[-1]
        asked_for = of_address or values.get("lang") or workspace.settings.language
        return RefusedPage(error, "zh" if asked_for == "zh" else "en")


def _check_reader(sidecar: Sidecar, page: str, viewer: Viewer) -> None:
    """Refuse a page to roles its sidecar does not name."""
    if not viewer.sees_everything and not {"all", viewer.role} & set(sidecar.roles):
        raise AccessError(
            f"role {viewer.role}", f"may not open the page {page}", rows=f"it is for {', '.join(sidecar.roles)}",
            fix="an administrator can name the role in the page's sidecar",
        )  # fmt: skip


class RefusedPage:
    """A page its visitor may not see: nothing of the lake is opened for it."""

    def __init__(self, error: AccessError, lang: Lang) -> None:
        self.error, self.lang = error, lang

    def show(self, name: str) -> Board:
        """The refusal, in place of the section."""
        text = "您无权查看此页面。" if self.lang == "zh" else "You may not see this page."
        notice = message("refused", text, f"{self.error.where}: {self.error.what}")
        return Board({"kind": "section", "id": name, "lang": self.lang, "title": None, "name": "", "lead": None,
                      "message": notice, "answer": None, "figures": [], "charts": [], "tables": [], "links": [],
                      "facts": {}})  # fmt: skip


class Page:
    """The state of one open page and the boards that show it."""

    def __init__(
        self,
        name: str,
        workspace: Workspace,
        sidecar: Sidecar,
        values: dict[str, Value],
        address: str,
        viewer: Viewer | None = None,
    ) -> None:
        self.name, self.workspace, self.sidecar = name, workspace, sidecar
        self._address_problem = ""
        self.values = self._with_address(values, address)
        self._connection = connect(workspace)
        self._boards: dict[str, Board] = {}
        self._sections: Mapping[str, Section] = import_module(f"aftersales.publish.contents.{name}").SECTIONS
        self._pinned = snapshot_for(workspace, self._connection, viewer, purpose=f"page {name}")
        self.scene = self._new_scene()

    def _with_address(self, values: dict[str, Value], address: str) -> dict[str, Value]:
        """Parameters of the address over those of the notebook; a wrong address is reported, and the page shows all."""
        if not address:
            return values
        try:
            found = checked_parameters(self.sidecar, parameters_from_query(self.sidecar, address), page=self.name)
        except ParameterError as error:
            self._address_problem = error.what
            return {**values, **self._language_of(address)}
        given = parameters_from_query(self.sidecar, address)
        return {**values, **{name: found[name] for name in given}}

    def _language_of(self, address: str) -> dict[str, Value]:
        """The language of an address that is wrong elsewhere, so that its reader can read why."""
        asked = parse_qs(address.lstrip("?")).get("lang", [""])[-1]
        return {"lang": asked} if "lang" in self.sidecar.parameters and asked in ("en", "zh") else {}

    def _new_scene(self) -> Scene:
        snapshot, as_of = self._snapshot()
        return Scene(self.name, self.workspace, snapshot, self.sidecar, dict(self.values), self.lang, as_of)

    @property
    def lang(self) -> Lang:
        return cast(Lang, self.values.get("lang") or self.workspace.settings.language)

    def _snapshot(self) -> tuple[Snapshot, dt.datetime]:
        """The pinned tables as known at the end of the day asked for (site's clock), or now."""
        end = self.workspace.end_of_day(str(self.values.get("as_of") or self.workspace.settings.as_of))
        return (replace(self._pinned, as_of=end), end) if end else (self._pinned, dt.datetime.now(dt.UTC))

    # ------------------------------------------------------------------------------------------------- showing

    def show(self, name: str) -> Board:
        """The board of one section; shown as the last line of a cell."""
        board = Board(self._drawn([name])[name], on_event=self._on_event)
        self._boards[name] = board
        return board

    def _drawn(self, names: Sequence[str]) -> dict[str, Payload]:
        """The sections, written down in the access log before anybody sees them; a refusal where that fails."""
        found = {name: self._noted(name) for name in names}
        access = self.scene.snapshot.access
        if access is not None and access.trail is not None:
            try:
                access.trail.write()
            except AccessError as error:
                said = message("refused", error.what, f"{error.rows} {error.fix}".strip())
                return {name: section(self.scene, name, "", message=said) for name in names}
        return found

    def _noted(self, name: str) -> Payload:
        with asked(self.scene.snapshot, "page", f"{self.name}/{name}", self.values, []) as entry:
            payload = self._payload(name)
            rows = [row for part in ("tables", "charts") for item in payload.get(part, []) for row in item["rows"]]
            entry.answered(len(rows), _blank_rows(rows))
        return payload

    def _payload(self, name: str) -> Payload:
        """The section, or what went wrong with it: the others still work."""
        if name == "strip":
            return self._guarded(name, self._strip)
        if name not in self._sections:
            raise ParameterError(
                f"page {self.name}", f"no section '{name}'", rows=", ".join(self._sections), fix="use one of them"
            )
        return self._guarded(name, self._sections[name])

    def _guarded(self, name: str, make: Section) -> Payload:
        try:
            payload = make(self.scene)
            check_exposure(payload, where=f"page {self.name}, section {name}", tier=self.sidecar.tier)
        except ExposureError as error:
            payload = self._withheld(name, error)
        except AftersalesError as error:
            payload = section(
                self.scene, name, "", message=message("refused", error.what, f"{error.rows} {error.fix}".strip())
            )
        except Exception:
            number = uuid.uuid4().hex[:8]
            _log(self.workspace).error(
                "page %s, section %s, error %s\n%s", self.name, name, number, traceback.format_exc()
            )
            text = self.scene.say(
                "This section could not be computed. The others still work.", "本节计算失败,其他部分仍可使用。"
            )
            payload = section(self.scene, name, "", message=message("error", text, id=number))
        payload["facts"] = {
            **plain_json(payload.get("facts", {})),
            "metric_versions": dict(self.scene.metric_versions),
            "table_versions": self.scene.snapshot.versions,
            "as_of": self.scene.as_of.isoformat(),
        }
        return payload

    def _withheld(self, name: str, error: ExposureError) -> Payload:
        """A notice in place of a section that would have shown personal data; a report with one has failed."""
        _log(self.workspace).error("page %s, section %s\n%s", self.name, name, error)
        text = self.scene.say(
            "This section is withheld: personal data would be shown.", "本节已拦截:内容含个人信息,不予显示。"
        )
        detail = f"{error.what} ({error.rows})"
        return section(self.scene, name, "", message=message("error", text, detail, id="privacy"))

    def refresh(self) -> None:
        """Draw every shown section anew for the present parameters."""
        self.scene = self._new_scene()
        drawn = self._drawn(list(self._boards))
        for name, board in self._boards.items():
            board.show(drawn[name])

    # -------------------------------------------------------------------------------------------------- events

    def _on_event(self, event: dict[str, Any]) -> None:
        """What the reader did. Anyone who sees the page can send anything: unknown names and values change nothing."""
        if event.get("kind") == "download":
            self._download_or_log(event)
            return
        try:
            wanted = self._wanted(event)
            self.values = checked_parameters(self.sidecar, {**self.values, **wanted}, page=self.name)
        except (ParameterError, KeyError, TypeError, ValueError):
            _log(self.workspace).warning("page %s refused an event of kind %r", self.name, str(event.get("kind"))[:20])
            for board in self._boards.values():  # ends the busy state; nothing is computed for it
                board.show(board.section)
            return
        self._address_problem = ""
        self.refresh()

    def _wanted(self, event: Mapping[str, Any]) -> dict[str, object]:
        kind = event["kind"]
        if kind == "toggle":
            return {event["name"]: self._toggled(event["name"], event["value"])}
        if kind == "toggle_pair":
            (first, second), (value, other) = event["names"], event["values"]
            return {first: self._toggled(first, value), second: self._toggled(second, other)}
        if kind == "set":
            return {event["name"]: self._typed(event["name"], event["value"])}
        if kind == "lang":
            return {"lang": event["value"]}
        if kind == "clear":
            names = [event["name"]] if event.get("name") else [n for n in self.sidecar.parameters if n != "lang"]
            return {name: self.sidecar.parameters[name].default for name in names}
        raise ParameterError(f"page {self.name}", "unknown event")

    def _toggled(self, name: str, value: object) -> object:
        parameter = self.sidecar.parameters[name]
        if not isinstance(value, str | int | float):
            raise TypeError("a toggle takes one plain value")
        if parameter.type == "texts":
            return toggled(self.values, name, str(value))
        wanted = self._typed(name, value)
        return parameter.default if self.values[name] == wanted else wanted

    def _typed(self, name: str, value: object) -> object:
        """Form fields send texts and lists of texts."""
        if isinstance(value, str) and self.sidecar.parameters[name].type != "texts":
            return self.sidecar.parameters[name].from_texts([value])
        return [value] if isinstance(value, str) else value

    def _download_or_log(self, event: Mapping[str, Any]) -> None:
        """Send the file; when that fails the board must still hear an answer, or it stays busy."""
        try:
            self._download(event)
        except Exception:
            _log(self.workspace).error("page %s, download\n%s", self.name, traceback.format_exc())
            self.refresh()

    def _download(self, event: Mapping[str, Any]) -> None:
        """Send the rows of one table as they are shown."""
        for board in self._boards.values():
            for item in board.section.get("tables", []):
                if item["id"] == event.get("table"):
                    about = {
                        "page": self.sidecar.title[self.lang],
                        "address": query_of(self.sidecar, self.values),
                        "as of": self.scene.as_of.isoformat(),
                        **self.scene.metric_versions,
                    }
                    self._note_export(item)
                    if event.get("format") == "xlsx":
                        mime = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
                        board.send_file(f"{item['id']}.xlsx", mime, tables_to_xlsx([item], about))
                    else:
                        board.send_file(f"{item['id']}.csv", "text/csv", table_to_csv(item))
                    return

    def _note_export(self, item: Payload) -> None:
        """Write the download down before it is sent."""
        snapshot = self.scene.snapshot
        with asked(snapshot, "export", f"{self.name}/{item['id']}", self.values, list(snapshot.tables)) as entry:
            entry.answered(len(item["rows"]), _blank_rows(item["rows"]))
        if snapshot.access is not None and snapshot.access.trail is not None:
            snapshot.access.trail.write()

    # --------------------------------------------------------------------------------------------------- strip

    def _strip(self, scene: Scene) -> Payload:
        settings = scene.workspace.settings
        problem = None
        if self._address_problem:
            problem = message(
                "refused",
                scene.say(
                    f"This address was not understood: {self._address_problem}. Everything is shown.",
                    f"无法识别该地址:{self._address_problem}。现显示全部数据。",
                ),
            )
        return {
            "kind": "strip",
            "id": "strip",
            "lang": scene.lang,
            "message": problem,
            "facts": {},
            "product": scene.say(settings.name, settings.name_zh),
            "page_title": self.sidecar.title[scene.lang],
            "title": None,
            "lead": None,
            "nav": self._navigation(scene),
            "controls": [
                self._control(scene, name)
                for name, parameter in self.sidecar.parameters.items()
                if parameter.shown and name != "lang"
            ],
            "chips": self._chips(scene),
            "freshness": _freshness(scene),
            "query": query_of(self.sidecar, self.values),
            "words": {},
        }

    def _navigation(self, scene: Scene) -> list[Payload]:
        lang = f"?lang={scene.lang}" if scene.values.get("lang") else ""
        return [
            {"title": sidecar.title[scene.lang], "href": f"{name}{lang}", "current": name == self.name}
            for name, sidecar in sidecars(self.workspace).items()
            if sidecar.in_navigation and _may_open(sidecar, scene.snapshot)
        ]

    def _control(self, scene: Scene, name: str) -> Payload:
        parameter = self.sidecar.parameters[name]
        kind = {
            "texts": "choices",
            "choice": "choice",
            "integer": "number",
            "number": "number",
            "text": "text",
            "date": "date",
            "month": "month",
            "flag": "flag",
        }[parameter.type]
        choices = [
            {"value": value, "label": self._choice_label(scene, name, value)} for value in self._choices(scene, name)
        ]
        kind = "choice" if choices and kind == "text" else kind
        return {
            "name": name,
            "label": parameter.title[scene.lang],
            "type": kind,
            "value": scene.values[name],
            "choices": choices,
            "help": parameter.help.get(scene.lang, ""),
        }

    def _choices(self, scene: Scene, name: str) -> list[str]:
        parameter = self.sidecar.parameters[name]
        if parameter.offers_dimensions:
            return list(dict.fromkeys([scene.text(name), *filled_unit_dimensions(scene.snapshot)]))
        if parameter.offers:
            return list(self._offered(scene, name))
        return parameter.choices or (self._dimension_values(scene, name) if parameter.dimension else [])

    def _offered(self, scene: Scene, name: str) -> Mapping[str, str]:
        """Names of tables or of sources a filter takes, each with its title."""
        if self.sidecar.parameters[name].offers == "tables":
            return {key: scene.say(table.name, table.name_zh) for key, table in canonical_tables().items()}
        sources = scene.once("sources", lambda: catalogue(scene.workspace))
        return {key: source.title.get(scene.lang, key) for key, source in sources.items()}

    def _choice_label(self, scene: Scene, name: str, value: str) -> str:
        parameter = self.sidecar.parameters[name]
        if parameter.offers_dimensions:
            return dimension_title(value, scene.lang)
        if parameter.offers:
            return self._offered(scene, name).get(value, value)
        return parameter.choice_titles.get(value, {}).get(scene.lang) or scene.label(value)

    def _dimension_values(self, scene: Scene, name: str) -> list[str]:
        """Values the filter can take: what the units have, else what the events have."""
        dimension = str(self.sidecar.parameters[name].dimension)
        found: set[str] = set()
        for table in ("unit", "repair", "complaint", "ticket"):
            if not scene.snapshot.has_rows(table):
                continue
            try:
                find_dimension(scene.snapshot, table, dimension)
            except (MetricError, AccessError):
                continue
            rows = with_dimensions(scene.snapshot, table, scene.snapshot.table(table), [dimension])
            values = rows.group_by(dimension).aggregate(n=rows.count()).order_by("n").execute()[dimension].dropna()
            found = set(values.astype(str).iloc[-MAX_CHOICES:])
            if found:
                break
        return sorted(found | set(scene.chosen(name)))

    def _chips(self, scene: Scene) -> list[Payload]:
        chips = []
        for name, parameter in self.sidecar.parameters.items():
            value = scene.values[name]
            if not parameter.shown or name == "lang" or value == parameter.default:
                continue
            for item in value if isinstance(value, list) else [value]:
                shown = self._choice_label(scene, name, str(item))
                chips.append({"name": name, "value": item, "text": f"{parameter.title[scene.lang]}: {shown}"})
        return chips


def _blank_rows(rows: Sequence[Mapping[str, Any]]) -> int:
    """Rows whose figures are withheld."""
    return sum(bool(row.get(WITHHELD)) for row in rows)


def _may_open(sidecar: Sidecar, snapshot: Snapshot) -> bool:
    """Whether the viewer may open a page."""
    return (
        snapshot.access is None
        or snapshot.access.role is None
        or bool({"all", snapshot.access.viewer.role} & set(sidecar.roles))
    )


def _freshness(scene: Scene) -> str:
    """One line: how far the data go, and as of when."""
    if not scene.snapshot.may_read("delivery"):
        day = scene.local_text(scene.as_of)
        return scene.say(f"As of {day}", f"口径日 {day}")
    if not scene.snapshot.has_rows("delivery"):
        return scene.say("No data has been loaded yet: aftersales ingest", "尚未载入数据:aftersales ingest")
    deliveries = scene.snapshot.connection.execute(scene.snapshot.versions_of("delivery").newest_known_at.max())
    loaded = scene.snapshot.connection.execute(scene.snapshot.versions_of("delivery").loaded_at.max())
    newest, known, day = (scene.local_text(moment) for moment in (deliveries, loaded, scene.as_of))
    return scene.say(
        f"Data to {newest} · loaded {known} · as of {day}", f"数据截至 {newest} · 载入于 {known} · 口径日 {day}"
    )


def _log(workspace: Workspace) -> logging.Logger:
    """The log of pages: details of errors stand here, never on the screen."""
    logger = logging.getLogger("aftersales.pages")
    path = workspace.cache / "pages.log"
    if str(path) not in [getattr(handler, "baseFilename", "") for handler in logger.handlers]:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    return logger
