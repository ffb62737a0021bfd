"""Raw text -> typed canonical rows with every reason for a rejection, as one SQL statement.

A check needs the text and the value: after the cast a wrong type is only a null. So both travel together until
the reasons are known. The statement is a chain of steps, because an expression that is used twice is computed once
only when it has a step of its own:

    trimmed (`_s0`..) -> text (`_t_`) -> plain (`_p_`, narrow) -> cast (`_c_`) -> value (`_v_`) -> reasons
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aftersales.collect.mapping import (
    BLANKS,
    FALSE_WORDS,
    FILE,
    NARROW,
    PART,
    RECEIVED,
    ROW,
    SHEET,
    TRUE_WORDS,
    WIDE,
    Code,
    ColumnSpec,
    Source,
    TableMapping,
    folded,
)
from aftersales.lake.engine import literal, quoted
from aftersales.model.tables import Column, Table

_OFFSET = r":[0-9]{2}(\.[0-9]+)? ?(Z|z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)$"
_JSON_DATE = r"^/Date\((-?[0-9]{1,15})(?:([+-][0-9]{2})([0-9]{2}))?\)/$"
_EUROPEAN = r"^[+-]?([0-9]+|[0-9]{1,3}(\.[0-9]{3})+)(,[0-9]*)?$"
# offsets the cast does not take: after a blank, or after minutes
_SHORT = "['%Y-%m-%dT%H:%M%z', '%Y-%m-%d %H:%M%z', '%Y-%m-%d %H:%M %z', '%Y-%m-%d %H:%M:%S %z']"

# few values have blanks around them: the costly trim is kept for those. Branches of a case are tried in this order;
# the parts of an "or" would be reordered while it runs
_TRIM = f"trim(x, {literal(BLANKS)})"
_BLANK_ENDS = ("x < '!'", *(f"ends_with(x, {literal(blank)})" for blank in BLANKS))

STEADY_SINCE = 1992
"""Zones whose offset has not changed since this year, China's among them, are computed without a calendar: it is
half the cost of reading a time."""

MACROS = f"""
create or replace temp macro trimmed(x) as
    case {" ".join(f"when {test} then {_TRIM}" for test in _BLANK_ENDS)}
         when x >= '\u00a0' then case when regexp_matches(x, '^[\u00a0\u3000\ufeff]') then {_TRIM} else x end
         else x end;
create or replace temp macro narrow(x) as
    case when strlen(x) = length(x) or not regexp_matches(x, '[\uff01-\uff5e\u3000]') then x
         else translate(x, {literal(WIDE)}, {literal(NARROW)}) end;
create or replace temp macro local_instant(t, zone, shift_us) as
    case when shift_us is not null and t >= timestamp '{STEADY_SINCE}-01-01'
         then make_timestamptz(epoch_us(t) - shift_us) else timezone(zone, t) end;
create or replace temp macro iso_instant(x, zone, shift_us) as
    case when x like '____-__-__ __:__:__' or not regexp_matches(x, {literal(_OFFSET)})
         then local_instant(try_cast(x as timestamp), zone, shift_us)
         else coalesce(try_cast(x as timestamptz), try_strptime(x, {_SHORT})) end;
create or replace temp macro json_date_ms(x) as try_cast(regexp_extract(x, {literal(_JSON_DATE)}, 1) as bigint);
create or replace temp macro json_date_sign(x) as regexp_extract(x, {literal(_JSON_DATE)}, 2);
create or replace temp macro json_date_minutes(x) as
    try_cast(json_date_sign(x) as bigint) * 60
    + try_cast(json_date_sign(x)[1:1] || regexp_extract(x, {literal(_JSON_DATE)}, 3) as bigint);
"""


@dataclass(frozen=True)
class _Field:
    """One canonical column on its way through the steps."""

    name: str
    spec: ColumnSpec
    column: Column
    zone: str
    codes: Sequence[Code]
    required: bool
    twin: str
    """The first field with the same text, type and rules; the steps are done once for both."""

    @property
    def is_coded(self) -> bool:
        """Whether a code list decides its value; an empty list knows no value."""
        return bool(self.codes) or self.spec.map_file is not None

    def at(self, step: str) -> str:
        """The column that holds this field after a step."""
        return quoted(f"_{step}_{self.twin}")


@dataclass(frozen=True)
class _Check:
    """SQL of a condition and of the reason it gives; it costs the row, or only the value."""

    condition: str
    reason: str
    rejects: bool


VERSION = "_version"
_INSTANT = Column(type="ts", en="", zh="")


def typed_query(
    source: Source,
    name: str,
    table: Table,
    mapping: TableMapping,
    code_lists: Mapping[str, Sequence[Code]],
    raw: str = "raw",
    keep: Sequence[str] = (),
    told: Mapping[str, str] | None = None,
) -> str:
    """SELECT of the typed rows of one table.

    Columns: the canonical ones of the mapping, `_version`, `_row`, `_reasons` (why the row is rejected: a list, or
    null), `_set_aside` (why values were blanked: a list, or null), `_names` (names of persons in the row, where the
    mapping says which columns hold them), `_raw` (raw columns `keep` as JSON, where one of the two lists of reasons is
    there); for every column with a code list `_coded_<column>` (whether the list has the value, null where there is
    none), and `_unmapped` (the values it lacks: a list of column and value, or null). `told` holds the pseudo columns
    that are one text for the whole file.
    """
    fields = _fields(source, table, mapping, code_lists)
    aliases = {
        column: f"_s{i}"
        for i, column in enumerate(
            dict.fromkeys([*(column for field in fields.values() for column in field.spec.sources), *mapping.names])
        )
    }
    checks = {field.name: _checks(field, fields, table) for field in fields.values()}
    every = [check for found in checks.values() for check in found]
    if name == source.primary:
        every.insert(0, _Check("_bad is not null", "_bad", rejects=True))
    out = [f"{_kept(field, checks[field.name])} as {quoted(field.name)}" for field in fields.values()]
    if table.key not in mapping.columns:
        pieces = ", ".join(f"coalesce({fields[part].at('v')}::varchar, '')" for part in table.key_from)
        out.append(f"concat_ws('/', {pieces}) as {quoted(table.key)}")
    if VERSION not in fields:
        out.append(f"null::timestamptz as {VERSION}")
    named = ", ".join(aliases[column] for column in mapping.names)
    out.append(
        f"list_filter([{named}]::varchar[], n -> n is not null) as _names" if named else "null::varchar[] as _names"
    )
    offered = _offered(source, mapping, raw, is_primary=name == source.primary)
    trimmed = "".join(f", {_trimmed(column, keep, told or {})} as {alias}" for column, alias in aliases.items())
    coded = {name: field for name, field in fields.items() if field.is_coded}
    uncoded = {name: field for name, field in fields.items() if not field.is_coded}
    clock = fields[table.clock if table.clock in fields and not fields[table.clock].is_coded else "known_at"]
    kept = [f"_r{i}" for i in range(len(keep))]  # columns pass through the steps for nothing, a struct would not
    passed = "".join(f", {_raw(column)} as {alias}" for column, alias in zip(keep, kept, strict=True))
    pairs = ", ".join(f"{literal(column)}, {alias}" for column, alias in zip(keep, kept, strict=True))
    return f"""
        with trimmed as (select _row, _bad{trimmed}{passed} from {offered} as _offered),
        texts as (select *{_step("t", _text, fields, aliases, source)} from trimmed),
        plain as (select *{_step("p", _plain, fields)} from texts),
        casts as (select *{_step("c", _cast, fields)} from plain),
        plain_vals as (select *{_step("v", _value, uncoded)} from casts),
        mapped as (select *{_step("m", _mapped, coded, clock)} from plain_vals),
        vals as (select *{_step("v", _value, coded)} from mapped),
        judged as (select {", ".join([*out, "_row", *kept, *_coverage(coded)])},
                          {_reasons([check for check in every if check.rejects])} as _reasons,
                          {_reasons([check for check in every if not check.rejects])} as _set_aside
                   from vals)
        select * {f"exclude ({', '.join(kept)})" if kept else ""},
               case when _reasons is not null then json_object({pairs})::varchar
                    when _set_aside is not null then json_object({pairs})::varchar end as _raw
        from judged"""


def _fields(
    source: Source, table: Table, mapping: TableMapping, code_lists: Mapping[str, Sequence[Code]]
) -> dict[str, _Field]:
    twins: dict[tuple[str, str], str] = {}

    def field(name: str, spec: ColumnSpec, column: Column, required: bool) -> _Field:
        codes = code_lists[spec.map_file] if spec.map_file else [Code(*pair) for pair in spec.map.items()]
        twin = twins.setdefault((column.type, spec.model_dump_json()), name)
        return _Field(name, spec, column, spec.time_zone or source.time_zone, codes, required or spec.required, twin)

    parts = [] if table.key in mapping.columns else table.key_from
    needed = {table.key, "known_at", *parts}
    fields = {name: field(name, spec, table.column(name), name in needed) for name, spec in mapping.columns.items()}
    if mapping.version:
        fields[VERSION] = field(VERSION, mapping.version, _INSTANT, False)
    return fields


def _step(step: str, expression: Callable[..., str | None], fields: Mapping[str, _Field], *more: object) -> str:
    """`, expression as "_step_column"` for every field the step does something for."""
    made = [(expression(field, *more), field.at(step)) for field in fields.values() if field.name == field.twin]
    return "".join(f",\n{sql} as {name}" for sql, name in made if sql is not None)


def _raw(column: str) -> str:
    return f"_offered.{quoted(column)}"


def _trimmed(column: str, received: Sequence[str], told: Mapping[str, str]) -> str:
    """SQL of a raw column without blanks around it, or of a pseudo column (`told`: those that are one text a file)."""
    if column == ROW:
        return "_offered._row::varchar"
    if column == SHEET:
        return "_offered._sheet" if "_sheet" in received else "null::varchar"
    if column in (FILE, RECEIVED):
        return f"{literal(told[column])}::varchar" if column in told else "null::varchar"
    return f"trimmed({_raw('_label' if column == PART else column)})"


def _offered(source: Source, mapping: TableMapping, raw: str, *, is_primary: bool) -> str:
    """Rows this table is offered: those of `where`, one per label of `split`; broken lines go to the first table."""
    conditions = ["true"]
    for column, values in mapping.where.items():
        listed = ", ".join(literal(value.strip(BLANKS)) for value in values)
        conditions.append(f"coalesce(trimmed({quoted(column)}), '') in ({listed})")
    empty = _no_value(source)
    conditions += [f"coalesce(trimmed({quoted(column)}), '') not in ({empty})" for column in mapping.only_with]
    wanted = " and ".join(conditions)
    rows = f"(select * from {raw} where {f'({wanted}) or _bad is not null' if is_primary else wanted})"
    if mapping.split is None:
        return rows
    column = f"trimmed({quoted(mapping.split.column)})"
    labels = (
        f"case when _bad is not null then [''] when starts_with({column}, '[') and json_valid({column}) "
        f"then from_json({column}, '[\"VARCHAR\"]') "
        f"else string_split({column}, {literal(mapping.split.separator)}) end"
    )
    return (
        f"(select * from (select *, unnest({labels}) as _label from {rows}) "
        f"where _bad is not null or trimmed(coalesce(_label, '')) <> '')"
    )


# --------------------------------------------------------------------------------------------------------- steps


def _text(field: _Field, aliases: Mapping[str, str], source: Source) -> str:
    """Text as received, null where the source means "no value"."""
    if field.spec.value is not None:
        return literal(_constant(field, field.spec.value))
    words = _no_value(source)
    texts = [f"case when {aliases[name]} not in ({words}) then {aliases[name]} end" for name in field.spec.sources]
    if field.spec.digest:
        text = f"md5(concat_ws(chr(31), {', '.join(f'coalesce({text}, {chr(39) * 2})' for text in texts)}))"
    elif field.spec.join is not None:
        text = f" || {literal(field.spec.join)} || ".join(f"({text})" for text in texts)
    else:
        text = texts[0] if len(texts) == 1 else f"coalesce({', '.join(texts)})"
    return _part(text, field.spec)


def _no_value(source: Source) -> str:
    """The words of the source for "no value", for `in (...)`."""
    return ", ".join(literal(word) for word in dict.fromkeys(["", *(word.strip(BLANKS) for word in source.missing)]))


def _part(text: str, spec: ColumnSpec) -> str:
    """The part of a text the mapping asks for."""
    if spec.json_key is not None:
        pointer = literal("/" + spec.json_key.replace("~", "~0").replace("/", "~1"))
        text = f"case when json_valid({text}) then json_extract_string({text}, {pointer}) end"
    if spec.before is not None:
        text = f"nullif(trimmed(split_part({text}, {literal(spec.before)}, 1)), '')"
    if spec.pattern is not None:
        pattern, group = literal(spec.pattern), min(re.compile(spec.pattern).groups, 1)
        found = f"nullif(trimmed(regexp_extract({text}, {pattern}, {group})), '')"
        text = f"case when regexp_matches({text}, {pattern}) then {found} else {text} end"
    return text


def _plain(field: _Field) -> str:
    return field.at("t") if field.column.type in ("str", "text") else f"narrow({field.at('t')})"


def _cast(field: _Field) -> str | None:
    """The cast that fails to null; the fence around what it lets through comes one step later."""
    plain, spec, kind = field.at("p"), field.spec, field.column.type
    if field.is_coded or kind == "bool":
        return f"lower({plain})"
    if kind in ("int", "num"):
        return _number(plain, spec, kind)
    if kind in ("day", "ts"):
        moments = [_moment(plain, name, kind, field.zone) for name in spec.format or ["iso"]]
        return moments[0] if len(moments) == 1 else f"coalesce({', '.join(moments)})"
    return None


def _value(field: _Field) -> str:
    plain, cast, spec, kind = field.at("p"), field.at("c"), field.spec, field.column.type
    if field.is_coded:
        code = f"coalesce({field.at('m')}, {plain})" if spec.otherwise == "keep" else field.at("m")
        value = f"try_cast({code} as {field.column.sql_type})"
    else:
        value = {"int": f"case when {cast} = round({cast}) and abs({cast}) < 9e15 then {cast}::bigint end",
                 "num": f"case when isfinite({cast}) then {cast} end",
                 "bool": f"case when {cast} in ({_words(TRUE_WORDS)}) then true "
                         f"when {cast} in ({_words(FALSE_WORDS)}) then false end",
                 "day": f"case when {cast} between date '0001-01-01' and date '9999-12-31' then {cast} end",
                 "ts": f"case when {cast} between timestamptz '0001-01-02 00:00:00+00' "
                       f"and timestamptz '9999-12-30 00:00:00+00' then {cast} end"}.get(kind, plain)  # fmt: skip
    value = f"{spec.case}({value})" if spec.case else value
    value = f"{literal(spec.prefix)} || {value}" if spec.prefix else value
    if spec.default is not None:
        constant = f"{literal(_constant(field, spec.default))}::{field.column.sql_type}"
        value = f"case when {field.at('t')} is null then {constant} else {value} end"
    return value


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(literal(word) for word in words)


def _constant(field: _Field, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return str(text.lower() in TRUE_WORDS).lower() if field.column.type == "bool" else text


def _mapped(field: _Field, clock: _Field) -> str:
    """What the code list gives, judged by the day of the table's clock; matching ignores case and width."""
    lowered = field.at("c")
    if not field.codes:
        return "null::varchar"
    if not any(code.is_dated for code in field.codes):
        branches = " ".join(
            f"when {literal(folded(code.source_value))} then {literal(code.target_value)}" for code in field.codes
        )
        return f"case {lowered} {branches} end"
    day = clock.at("v")
    day = f"timezone({literal(clock.zone)}, {day})::date" if clock.column.type == "ts" else day
    branches = " ".join(
        f"when {lowered} = {literal(folded(code.source_value))}{_holds(code, day)} then {literal(code.target_value)}"
        for code in field.codes
    )
    return f"case {branches} end"


def _holds(code: Code, day: str) -> str:
    since = f" and {day} >= date '{code.valid_from}'" if code.valid_from > dt.date.min else ""
    until = f" and {day} <= date '{code.valid_to}'" if code.valid_to < dt.date.max else ""
    return since + until


def _coverage(coded: Mapping[str, _Field]) -> list[str]:
    """Whether each code list has the value, and the values that it lacks; only rows with one pay for the list."""
    if not coded:
        return ["null::struct(c varchar, v varchar)[] as _unmapped"]
    lacks = {name: f"{field.at('t')} is not null and {field.at('m')} is null" for name, field in coded.items()}
    each = ", ".join(
        f"case when {lacks[name]} then {{'c': {literal(name)}, 'v': {field.at('p')}}} end"
        for name, field in coded.items()
    )
    known = [
        f"case when {field.at('t')} is not null then {field.at('m')} is not null end as {quoted(f'_coded_{name}')}"
        for name, field in coded.items()
    ]
    any_of = " or ".join(f"({condition})" for condition in lacks.values())
    return [*known, f"case when {any_of} then list_filter([{each}], lambda u: u is not null) end as _unmapped"]


def _number(plain: str, spec: ColumnSpec, kind: str) -> str:
    text = plain
    if spec.decimal == ",":
        american = f"replace(replace({plain}, '.', ''), ',', '.')"
        text = f"case when regexp_matches({plain}, {literal(_EUROPEAN)}) then {american} end"
    number = f"try_cast({text} as double)"
    if spec.factor is not None:
        number = f"{number} * {spec.factor!r}::double"
    if spec.offset:
        number = f"{number} + {float(spec.offset)!r}::double"
    scaled = spec.factor is not None or bool(spec.offset)
    return f"round({number}, 6)" if kind == "int" and scaled else number  # 2.3 * 100 is 229.99999999999997


def _moment(plain: str, name: str, kind: str, zone: str) -> str:
    """A day or an instant from text in one format; text without an offset is read in `zone`.

    A day keeps the date its own offset gives it; an instant without one (epoch, Z) falls on the day of `zone`.
    """
    here = literal(zone)
    if name == "iso":  # the casts also know the words 'epoch' and 'infinity'
        cast = (
            f"try_cast({plain} as date)" if kind == "day" else f"iso_instant({plain}, {here}, {_steady_offset(zone)})"
        )
        return f"case when {plain} < ':' then {cast} end"
    if name == "json_date":
        instant = f"make_timestamptz(json_date_ms({plain}) * 1000)"
        if kind == "ts":
            return instant
        shifted = f"make_timestamptz((json_date_ms({plain}) + json_date_minutes({plain}) * 60000) * 1000)"
        return f"case when json_date_sign({plain}) = '' then timezone({here}, {instant})::date else {shifted}::date end"
    if name in ("epoch_s", "epoch_ms"):
        scale = 1_000_000 if name == "epoch_s" else 1_000
        instant = f"try(make_timestamptz((try_cast({plain} as double) * {scale})::bigint))"
    else:
        parsed = f"try_strptime({plain}, {literal(name)})"
        instant = parsed if "%z" in name else f"local_instant({parsed}, {here}, {_steady_offset(zone)})"
        if kind == "day" and "%z" not in name:
            return f"{parsed}::date"
    return f"timezone({here}, {instant})::date" if kind == "day" else instant


@functools.cache
def _steady_offset(zone: str) -> str:
    """SQL of the microseconds `zone` has been ahead of UTC ever since STEADY_SINCE, or null."""
    clock = zoneinfo.ZoneInfo(zone)
    months = [dt.datetime(year, month, 1, tzinfo=clock) for year in range(STEADY_SINCE, 2038) for month in range(1, 13)]
    offsets = {(month.utcoffset() or dt.timedelta()) // dt.timedelta(microseconds=1) for month in months}
    return str(offsets.pop()) if len(offsets) == 1 else "null"


# -------------------------------------------------------------------------------------------------------- checks


def _checks(field: _Field, fields: Mapping[str, _Field], table: Table) -> list[_Check]:
    """Everything that may be wrong with one value."""
    text, value, spec, column = field.at("t"), field.at("v"), field.spec, field.column
    rejects = field.required or spec.on_bad == "reject"
    found: list[_Check] = []

    def check(condition: str, reason: str, *, costs_row: bool = rejects) -> None:
        found.append(_Check(condition, literal(f"{field.name.removeprefix('_')}:{reason}"), costs_row))

    if field.required or field.name == table.clock:
        check(f"{value} is null and {text} is null", "missing")
    unread = f"{text} is not null and {value} is null"
    if field.is_coded and spec.otherwise != "keep":
        check(unread, "unknown_value", costs_row=field.required or (rejects and spec.otherwise == "reject"))
    elif spec.value is None and (field.required or column.type not in ("id", "cat", "str", "text")):
        check(unread, "type")
    if column.type == "id" and spec.value is None and not field.is_coded and not spec.digest:
        check(_is_rounded(field.at("p"), spec.join), "destroyed_by_excel", costs_row=field.required)
    if column.allowed:
        check(f"{value} not in ({_words(tuple(column.allowed))})", "not_allowed")
    low = spec.min if spec.min is not None else column.min
    high = spec.max if spec.max is not None else column.max
    if low is not None:
        check(f"{value} < {literal(str(low))}::{column.sql_type}", _limit_reason("below", "before", low))
    if high is not None:
        check(f"{value} > {literal(str(high))}::{column.sql_type}", _limit_reason("above", "after", high))
    for other, sign, word in ((spec.not_before, "<", "before"), (spec.not_after, ">", "after")):
        if other:
            left, right = _comparable(field, fields[other])
            check(f"{left} {sign} {right}", f"{word}_{other}")
    return found


_ROUNDED = "[+-]?[0-9]([.,][0-9]+)?[eE][+][0-9]{2,3}"


def _is_rounded(text: str, between: str | None) -> str:
    """SQL: a spreadsheet has rounded an id to 1.00008E+11, or one of the ids with `between` between them."""
    edge = re.escape(between) if between else ""
    part = f"(^|{edge}){_ROUNDED}({edge}|$)" if edge else f"^{_ROUNDED}$"
    return f"contains({text}, '+') and regexp_matches({text}, {literal(part)})"  # hardly any id has a plus


def _limit_reason(number: str, moment: str, limit: float | str) -> str:
    return f"{moment}_{limit}" if isinstance(limit, str) else f"{number}_{limit:g}"


def _comparable(one: _Field, other: _Field) -> tuple[str, str]:
    """Both values; where one is a day, the other's day in its own zone."""
    values = []
    for field, partner in ((one, other), (other, one)):
        is_instant = field.column.type == "ts" and partner.column.type == "day"
        values.append(f"timezone({literal(field.zone)}, {field.at('v')})::date" if is_instant else field.at("v"))
    return values[0], values[1]


def _kept(field: _Field, checks: list[_Check]) -> str:
    """The value, blank where a check says so."""
    blanks = " or ".join(f"({check.condition})" for check in checks if not check.rejects)
    return f"case when {blanks} then null else {field.at('v')} end" if blanks else field.at("v")


def _reasons(checks: list[_Check]) -> str:
    """The list of reasons, null when there is none: only rows with a problem pay for the list."""
    if not checks:
        return "null::varchar[]"
    any_of = " or ".join(f"({check.condition})" for check in checks)
    each = ", ".join(f"case when {check.condition} then {check.reason} end" for check in checks)
    return f"case when {any_of} then list_filter([{each}], lambda r: r is not null) end"
