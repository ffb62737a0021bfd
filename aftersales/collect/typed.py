"""Raw text -> typed canonical rows with every reason for a rejection, as one SQL statement.

A check needs the text and the value: after the cast a wrong type is only a null. So both travel together until
the reasons are known.
"""

from __future__ import annotations

from collections.abc import Mapping

from aftersales.collect.mapping import PART, ColumnSpec, Source, TableMapping
from aftersales.lake.engine import literal, quoted
from aftersales.model.tables import Column, Table

BLANKS = " \t\r\n\u00a0\u3000\ufeff"
_WIDE = "".join(chr(code) for code in range(0xFF01, 0xFF5F)) + "\u3000"
_NARROW = "".join(chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)) + " "

MACROS = f"""
create or replace temp macro trimmed(x) as trim(x, {literal(BLANKS)});
create or replace temp macro narrow(x) as
    case when strlen(x) = length(x) then x else translate(x, {literal(_WIDE)}, {literal(_NARROW)}) end;
create or replace temp macro has_offset(x) as regexp_matches(x, '[0-9](Z|z|[+-][0-9]{{2}}:?[0-9]{{2}})$');
create or replace temp macro json_date_ms(x) as try_cast(regexp_extract(x, '^/Date\\((-?[0-9]+)', 1) as bigint);
create or replace temp macro json_date_shift(x) as
    coalesce(try_cast(regexp_extract(x, '([+-][0-9]{{2}})[0-9]{{2}}\\)/$', 1) as bigint) * 60
           + try_cast(regexp_extract(x, '([+-])[0-9]{{2}}[0-9]{{2}}\\)/$', 1) || regexp_extract(x, '([0-9]{{2}})\\)/$', 1)
                      as bigint), 0);
"""

TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0", "是", "对", "有")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0", "否", "无", "没有")


def typed_query(source: Source, name: str, table: Table, mapping: TableMapping,
                code_lists: Mapping[str, Mapping[str, str]], raw: str = "raw") -> str:
    """SELECT of the typed rows of one table.

    Columns: the canonical ones of the mapping, `_version`, `_row`, `_reasons` (why the row is rejected, a list),
    `_set_aside` (why values were blanked, a list).
    """
    parts: list[str] = ["_row", "_bad"]
    reasons: list[str] = ["_bad"] if name == source.primary else []
    set_aside: list[str] = []
    outer: list[str] = []
    for column, spec in mapping.columns.items():
        described = table.column(column)
        text, value = _expressions(spec, described, source, code_lists)
        parts += [f"{text} as {quoted('_t_' + column)}", f"{value} as {quoted('_v_' + column)}"]
        problems = _problems(column, spec, described, required=_is_required(column, spec, table))
        (reasons if spec.on_bad == "reject" else set_aside).extend(problems)
        blank = spec.on_bad == "blank" and problems
        outer.append(f"case when len({_listed(problems)}) = 0 then {_typed(column)} end as {quoted(column)}"
                     if blank else f"{_typed(column)} as {quoted(column)}")
    if table.key not in mapping.columns:
        pieces = ", ".join(f"coalesce({_typed(part)}, '')" for part in table.key_from)
        outer.append(f"concat_ws('/', {pieces}) as {quoted(table.key)}")
    version = mapping.version
    parts.append(f"{_expressions(version, _INSTANT, source, code_lists)[1] if version else 'null::timestamptz'} as _version")
    return f"""
        with typed as (select {", ".join(parts)} from {_offered(mapping, raw)} as r)
        select {", ".join(outer)}, _version, _row, {_listed(reasons)} as _reasons, {_listed(set_aside)} as _set_aside
        from typed"""


_INSTANT = Column(type="ts", en="", zh="")


def offered_count_query(mapping: TableMapping, raw: str = "raw") -> str:
    """SELECT of how many rows of the file this table is offered."""
    return f"select count(*) from {_offered(mapping, raw)}"


def _offered(mapping: TableMapping, raw: str) -> str:
    """Rows this table is offered: those of `where`, one per label of `split`."""
    conditions = ["true"]
    for column, values in mapping.where.items():
        listed = ", ".join(literal(value.strip()) for value in values)
        conditions.append(f"coalesce(trimmed({quoted(column)}), '') in ({listed})")
    rows = f"(select * from {raw} where {' and '.join(conditions)})"
    if mapping.split is None:
        return rows
    labels = f"string_split({quoted(mapping.split.column)}, {literal(mapping.split.separator)})"
    return (f"(select * from (select *, unnest({labels}) as _label from {rows}) "
            f"where _bad is null and trimmed(coalesce(_label, '')) <> '')")


def _is_required(column: str, spec: ColumnSpec, table: Table) -> bool:
    return spec.required or column in (table.key, table.clock, "known_at")


def _listed(reasons: list[str]) -> str:
    if not reasons:
        return "[]::varchar[]"
    return f"list_filter([{', '.join(reasons)}], lambda r: r is not null)"


def _text(column: str) -> str:
    return quoted("_t_" + column)


def _typed(column: str) -> str:
    return quoted("_v_" + column)


# ---------------------------------------------------------------------------------------------- text of a column


def _raw_text(name: str, source: Source) -> str:
    """Trimmed text of one raw column, null where the source means "no value"."""
    text = f"trimmed(r.{quoted('_label' if name == PART else name)})"
    words = ", ".join(literal(word) for word in dict.fromkeys(["", *(word.strip() for word in source.missing)]))
    return f"case when {text} in ({words}) then null else {text} end"


def _source_text(spec: ColumnSpec, source: Source) -> str:
    texts = [_raw_text(name, source) for name in spec.sources]
    text = texts[0] if len(texts) == 1 else f"coalesce({', '.join(texts)})"
    if spec.before is not None:
        text = f"trimmed(split_part({text}, {literal(spec.before)}, 1))"
    return text


def _expressions(spec: ColumnSpec, column: Column, source: Source,
                 code_lists: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """SQL of the text as received and of the typed value."""
    if spec.value is not None:
        constant = literal(str(spec.value).lower() if isinstance(spec.value, bool) else str(spec.value))
        return constant, f"{constant}::{column.sql_type}"
    text = _source_text(spec, source)
    if column.type in ("id", "cat"):
        value = _coded(f"narrow({text})", text, spec, code_lists)
        value = f"{spec.case}({value})" if spec.case else value
        value = f"{literal(spec.prefix)} || {value}" if spec.prefix else value
    elif column.type in ("str", "text"):
        value = text
    elif spec.map or spec.map_file:
        value = f"try_cast({_coded(f'narrow({text})', text, spec, code_lists)} as {column.sql_type})"
    else:
        value = _cast(f"narrow({text})", spec, column, spec.time_zone or source.time_zone)
    if spec.default is not None:
        value = f"case when {text} is null then {literal(_as_word(spec.default))}::{column.sql_type} else {value} end"
    return text, value


def _as_word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _coded(plain: str, text: str, spec: ColumnSpec, code_lists: Mapping[str, Mapping[str, str]]) -> str:
    """The value a code list gives; matching ignores case and width."""
    codes = code_lists[spec.map_file] if spec.map_file else spec.map
    if not codes:
        return plain
    folded = {_folded(key): value for key, value in codes.items()}
    branches = " ".join(f"when {literal(key)} then {literal(value)}" for key, value in folded.items())
    otherwise = f" else {plain}" if spec.otherwise == "keep" else ""
    return f"case lower({plain}) {branches}{otherwise} end"


def _folded(text: str) -> str:
    return text.strip(BLANKS).translate(str.maketrans(_WIDE, _NARROW)).lower()


# --------------------------------------------------------------------------------------------------------- types


def _cast(plain: str, spec: ColumnSpec, column: Column, zone: str) -> str:
    if column.type == "bool":
        true, false = (", ".join(literal(word) for word in words) for words in (TRUE_WORDS, FALSE_WORDS))
        return f"case when lower({plain}) in ({true}) then true when lower({plain}) in ({false}) then false end"
    if column.type in ("int", "num"):
        return _number(plain, spec, column)
    formats = spec.format or ["iso"]
    instants = [_moment(plain, name, column.type, zone) for name in formats]
    return instants[0] if len(instants) == 1 else f"coalesce({', '.join(instants)})"


def _number(plain: str, spec: ColumnSpec, column: Column) -> str:
    text = f"replace(replace({plain}, '.', ''), ',', '.')" if spec.decimal == "," else plain
    number = f"try_cast({text} as double)"
    number = f"case when isfinite({number}) then {number} end"
    if spec.factor is not None:
        number = f"({number} * {spec.factor!r}::double)"
    if spec.offset:
        number = f"({number} + {float(spec.offset)!r}::double)"
    if column.type == "int":
        return f"case when {number} = round({number}) and abs({number}) < 9e15 then ({number})::bigint end"
    return number


def _moment(plain: str, name: str, kind: str, zone: str) -> str:
    """A day or an instant from text in one format; text without an offset is read in `zone`."""
    if name == "json_date":
        shift = f" + json_date_shift({plain}) * 60000" if kind == "day" else ""
        instant = f"make_timestamptz((json_date_ms({plain}){shift}) * 1000)"
        return f"({instant})::date" if kind == "day" else instant
    if name in ("epoch_s", "epoch_ms"):
        scale = 1_000_000 if name == "epoch_s" else 1_000
        instant = f"make_timestamptz((try_cast({plain} as double) * {scale})::bigint)"
        return f"(timezone({literal(zone)}, {instant}))::date" if kind == "day" else instant
    if name == "iso":
        if kind == "day":
            return f"coalesce(try_cast({plain} as date), try_cast({plain} as timestamp)::date)"
        return (f"case when has_offset({plain}) then try_cast({plain} as timestamptz) "
                f"else timezone({literal(zone)}, try_cast({plain} as timestamp)) end")
    parsed = f"try_strptime({plain}, {literal(name)})"
    if kind == "day":
        return f"({parsed})::date"
    return parsed if "%z" in name else f"timezone({literal(zone)}, {parsed})"


# -------------------------------------------------------------------------------------------------------- checks


def _problems(column: str, spec: ColumnSpec, described: Column, *, required: bool) -> list[str]:
    """SQL expressions, each a reason or null."""
    text, value = _text(column), _typed(column)
    found = []
    if required:
        found.append(_when(f"{value} is null and {text} is null", column, "missing"))
    if spec.map or spec.map_file:
        if spec.otherwise != "keep":
            found.append(_when(f"{text} is not null and {value} is null", column, "unknown_value"))
    elif described.type not in ("id", "cat", "str", "text"):
        found.append(_when(f"{text} is not null and {value} is null", column, "type"))
    if described.allowed:
        listed = ", ".join(literal(word) for word in described.allowed)
        found.append(_when(f"{value} not in ({listed})", column, "not_allowed"))
    low = spec.min if spec.min is not None else described.min
    high = spec.max if spec.max is not None else described.max
    cast = described.sql_type
    if low is not None:
        found.append(_when(f"{value} < {literal(str(low))}::{cast}", column, f"below_{low:g}" if _is_number(low) else f"before_{low}"))
    if high is not None:
        found.append(_when(f"{value} > {literal(str(high))}::{cast}", column, f"above_{high:g}" if _is_number(high) else f"after_{high}"))
    if spec.not_before:
        found.append(_when(f"{value} < {_typed(spec.not_before)}", column, f"before_{spec.not_before}"))
    if spec.not_after:
        found.append(_when(f"{value} > {_typed(spec.not_after)}", column, f"after_{spec.not_after}"))
    return found


def _is_number(limit: float | str) -> bool:
    return not isinstance(limit, str)


def _when(condition: str, column: str, reason: str) -> str:
    return f"case when {condition} then {literal(f'{column}:{reason}')} end"
