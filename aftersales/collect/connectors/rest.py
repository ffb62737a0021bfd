"""A web service that answers in JSON, page by page -> JSON lines, one item each.

Nested objects are laid flat (`via.channel`), lists stay JSON, records beside the items are put into the items that
refer to them. Where the service hands out a cursor that holds for good, each page counts once it has come; else only
the whole read counts, and a list that changed while it was read is read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from aftersales.collect.channels import Paging, RestSettings
from aftersales.collect.connectors import SAMPLE_ROWS, Probed
from aftersales.collect.connectors.rest_cursor import Reached, since_value
from aftersales.collect.connectors.web import SYSTEM_CLOCK, Answer, Clock, Web
from aftersales.collect.landing import Cursor, Fetched, Landing
from aftersales.collect.mapping import Source
from aftersales.model.errors import SourceError, known_names
from aftersales.model.settings import Workspace

PAGES_AT_MOST = 1_000_000
READS_AT_MOST = 3
"""A list that changes while it is read is read so many times; then it is refused."""


@dataclass(frozen=True)
class _Page:
    """One answer: its items laid flat, and what it says about itself."""

    items: list[dict[str, Any]]
    cursor: str | None
    total: int | None


def fetch(
    source: Source, workspace: Workspace, since: Cursor | None, landing: Landing, *, clock: Clock = SYSTEM_CLOCK
) -> Fetched:
    """Land the items since `since`; the newest cursor and the items fetched.

    Raises
    ------
    SourceError
        Not reachable, refused, throttled for too long, going round in circles, or changing all the time.
    """
    settings = _settings(source)
    reached = Reached(settings, since, clock.now())
    with Web(settings, f"source {source.name}", clock) as web:
        for parameters in settings.each or [{}]:
            read = _Read(web, settings, f"source {source.name}", {**settings.parameters, **parameters}, since)
            for page in read.pages():
                for item in page.items:
                    reached.see(item)
                if page.items:
                    landing.add_records(page.items)
                landing.reached(reached.after_page(page.cursor))
    return landing.finish(reached.cursor)


def probe(source: Source, workspace: Workspace, *, clock: Clock = SYSTEM_CLOCK) -> Probed:
    """Log in and read one page.

    Raises
    ------
    SourceError
        As `fetch`.
    """
    settings, where = _settings(source), f"source {source.name}"
    parameters = {**settings.parameters, **(settings.each[0] if settings.each else {})}
    with Web(settings, where, clock) as web:
        page = next(_Read(web, settings, where, parameters, None).pages())
    columns = dict.fromkeys(name for item in page.items for name in item)
    return Probed(f"{len(page.items)} items on the first page of {settings.url}", tuple(columns),
                  tuple(page.items[:SAMPLE_ROWS]))  # fmt: skip


def _settings(source: Source) -> RestSettings:
    assert source.rest is not None  # the schema of the YAML sees to it
    return source.rest


# ------------------------------------------------------------------------------------------------- page by page


@dataclass
class _Read:
    """One read of a list from its first page to its last."""

    web: Web
    settings: RestSettings
    where: str
    parameters: Mapping[str, Any]
    since: Cursor | None
    seen: set[str] = field(default_factory=set)
    """Digests of all items that came, to hold against the total the service names."""
    asked: set[str] = field(default_factory=set)
    repeated: int = 0

    def pages(self) -> Iterator[_Page]:
        """Every page; a read that missed items because the list changed is done again, up to `READS_AT_MOST` times."""
        totals: list[int] = []
        for _ in range(READS_AT_MOST):
            totals, last, came = [], "", 0
            self.asked.clear()
            for number, answer in enumerate(self._answers(), start=1):
                page = self._page(answer)
                came += len(page.items)
                digest = _digest(page.items)
                self._check_progress(number, page.items != [] and digest == last)
                last = digest
                totals += [] if page.total is None else [page.total]
                yield _Page([item for item in page.items if self._is_new(item)], page.cursor, page.total)
            steady = bool(totals) and min(totals) == max(totals) and came >= totals[-1]
            if not totals or steady:
                return
        raise self._problem(
            f"has {totals[-1]:,} items, of which {len(self.seen):,} came in {READS_AT_MOST} reads",
            "the list changes while it is read, or 'total' is not the number of items: page by cursor, or mend 'total'",
        )

    def _answers(self) -> Iterator[Answer]:
        """One answer after the other, as the service's way of paging has it."""
        page = self.settings.page
        url, parameters = self.settings.url, {**self.parameters, **_first_parameters(self.settings, self.since)}
        for number in range(PAGES_AT_MOST):
            answer = self.web.get(url, parameters)
            yield answer
            if page is None or self._says_last(page, answer.body):
                return
            count = len(self._items(answer.body))
            if page.by in ("number", "offset"):
                if self._is_last(page, count, number, answer.body):
                    return
                parameters = {**parameters, str(page.parameter): _place(page, number + 1)}
                continue
            following = _next_cursor(page, answer)
            if following is None:
                return
            if following in self.asked:
                raise self._problem(
                    f"goes round in circles: page {number + 1} leads to one that was read",
                    "mend 'page' in the source's YAML: is the path of the cursor or of the next address right?",
                )
            self.asked.add(following)
            if page.by == "link":
                url, parameters = following, {}
            else:
                given = {name: value for name, value in parameters.items() if name != _since_parameter(self.settings)}
                parameters = {**given, str(page.parameter): following}

    def _is_last(self, page: Paging, count: int, number: int, body: Any) -> bool:
        """A page by number is the last when it is empty, or shorter than asked where nothing else tells."""
        told = page.end is not None or page.more is not None
        if count == 0:
            return not told
        total = _total(self.settings, body)
        if total is not None and page.size:
            return (number + 1) * page.size >= total
        return not told and page.size is not None and count < page.size

    def _says_last(self, page: Paging, body: Any) -> bool:
        for path, last in ((page.end, (True, "true", 1)), (page.more, (False, "false", 0))):
            flag = _at(body, path) if path else None
            if path and flag is None:
                raise self._problem(
                    f"answers without '{path}', which says whether a page is the last",
                    "mend 'end' or 'more' under 'page' in the source's YAML",
                    known_names(body) if isinstance(body, dict) else "",
                )
            if path and flag in last:
                return True
        return False

    def _page(self, answer: Answer) -> _Page:
        items = self._items(answer.body)
        for name, side in self.settings.sideload.items():
            records = _at(answer.body, side.records)
            known = {str(record.get(side.id)): record for record in records or [] if isinstance(record, dict)}
            items = [
                {**item, name: known.get(str(_at(item, side.key)))} if isinstance(item, dict) else item
                for item in items
            ]
        cursor = self.settings.page and self.settings.page.cursor and _at(answer.body, self.settings.page.cursor)
        return _Page([_flat(item) for item in items], None if cursor in (None, "", False) else str(cursor),
                     _total(self.settings, answer.body))  # fmt: skip

    def _items(self, body: Any) -> list[Any]:
        items = _at(body, self.settings.items)
        if isinstance(items, list):
            return items
        if items is None and isinstance(body, dict) and self.settings.items.partition(".")[0] in body:
            return []  # the key is there and empty
        known = known_names(body) if isinstance(body, dict) else f"the body is a {type(body).__name__}"
        raise self._problem(
            f"answers without a list at '{self.settings.items}'", "mend 'items' in the source's YAML", known
        )

    def _is_new(self, item: dict[str, Any]) -> bool:
        """Whether this very item has not come before in this read: lists that shift show one twice."""
        digest = _digest(item)
        if digest in self.seen:
            return False
        self.seen.add(digest)
        return True

    def _check_progress(self, number: int, is_repeated: bool) -> None:
        page = self.settings.page
        self.repeated = self.repeated + 1 if is_repeated else 0
        if page is not None and self.repeated > (0 if page.by in ("number", "offset") else 2):
            raise self._problem(
                f"gives page {number - 1} again as page {number}",
                f"mend 'page' in the source's YAML: does the service know the parameter '{page.parameter}'?",
            )

    def _problem(self, what: str, fix: str, rows: str = "nothing of this read moves the watermark") -> SourceError:
        return SourceError(self.where, f"{self.settings.url} {what}", rows=rows, fix=fix)


def _place(page: Paging, number: int) -> int:
    """The parameter of page `number` (0, 1, ...): its number, or the items before it."""
    first = page.first if page.first is not None else 1
    return number * (page.size or 0) if page.by == "offset" else first + number


def _next_cursor(page: Paging, answer: Answer) -> str | None:
    if page.by == "link":
        address = _at(answer.body, page.next) if page.next else answer.next_link
        return str(httpx.URL(answer.url).join(str(address))) if address else None
    cursor = _at(answer.body, page.cursor or "")
    return None if cursor in (None, "", False) else str(cursor)


def _total(settings: RestSettings, body: Any) -> int | None:
    total = _at(body, settings.total) if settings.total else None
    return int(total) if isinstance(total, int) or (isinstance(total, str) and total.isdigit()) else None


def _at(body: Any, path: str) -> Any:
    """What stands at `a.b.c` in a body; the body itself for an empty path, None where there is nothing."""
    for part in path.split(".") if path else []:
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _flat(item: Any) -> dict[str, Any]:
    """An item with nested objects as dotted keys.

    Examples
    --------
    >>> _flat({"id": 1, "via": {"channel": "web", "source": {}}, "tags": ["a"]})
    {'id': 1, 'via.channel': 'web', 'tags': ['a']}
    """
    if not isinstance(item, dict):
        return {"value": item}
    flat: dict[str, Any] = {}
    for key, value in item.items():
        parts = (
            {f"{key}.{name}": inner for name, inner in _flat(value).items()}
            if isinstance(value, dict)
            else {key: value}
        )
        for name, inner in parts.items():
            flat.setdefault(name, inner)
    return flat


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()[:32]


def _first_parameters(settings: RestSettings, since: Cursor | None) -> dict[str, Any]:
    """Parameters of the first request: size of a page, and where to start."""
    page, ask = settings.page, settings.since
    given: dict[str, Any] = {}
    if page is not None and page.size_parameter:
        given[page.size_parameter] = page.size
    if page is not None and page.by in ("number", "offset"):
        given[str(page.parameter)] = _place(page, 0)
    if since is not None and "resume" in since and page is not None:
        return {**given, str(page.parameter): since["resume"]}
    if ask is None:
        return given
    if since is not None:
        return {**given, ask.parameter: since_value(ask, since["since"], settings.overlap)}
    return {**given, ask.parameter: ask.first} if ask.first is not None else given


def _since_parameter(settings: RestSettings) -> str:
    return settings.since.parameter if settings.since else ""
