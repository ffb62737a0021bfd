"""The last look before something is shown: whether personal data stand in a section, a notebook's output or a report.

What is looked for: telephone numbers, e-mail addresses, resident ids, bank cards, number plates and VINs by the same
detectors that mask texts on the way in; pseudonyms; texts that are still sealed; and passages of texts that this
process has unsealed. A page that may show texts of persons says so in its sidecar (`tier: P2`); telephone numbers and
the like are shown by no page. Messages name the section and the kind, never the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aftersales.collect.masking import find
from aftersales.lake.vault import SEAL, opened_passages
from aftersales.model.errors import AftersalesError

ALWAYS = frozenset({"email", "id", "card", "phone", "plate", "vin"})
"""Kinds no page shows."""
NOT_SCANNED = frozenset({"metric_versions", "table_versions", "as_of", "words", "$schema", "config", "usermeta"})
"""Keys of a payload whose values the workbench makes itself: versions, button labels, looks of charts."""
MOST_LISTED = 5

_PSEUDONYM = re.compile(r"(?<![A-Za-z0-9_])[cs]_[a-z2-7]{20}(?![A-Za-z0-9_])")
KIND_WORDS = {
    "email": ("e-mail address", "邮箱"), "id": ("resident id", "身份证号"), "card": ("bank card", "银行卡号"),
    "phone": ("telephone number", "电话号码"), "plate": ("number plate", "车牌"), "vin": ("VIN", "车架号"),
    "pseudonym": ("pseudonym of a person", "人员假名"), "sealed": ("sealed text", "密封文本"),
    "text": ("text of a person", "个人文本"),
}  # fmt: skip


class ExposureError(AftersalesError):
    """Personal data would have been shown."""

    exit_code = 1


@dataclass(frozen=True, order=True)
class Exposure:
    """Something personal that would be seen: its kind, and where in the payload it stands."""

    kind: str
    place: str


def exposures(content: Any, *, tier: str = "P1") -> list[Exposure]:
    """Personal data in a payload, a text or a list of them, each kind and place once.

    Parameters
    ----------
    tier
        Highest tier the page may show; from P2 on, texts and pseudonyms of persons are allowed.

    Examples
    --------
    >>> exposures({"tables": [{"rows": [{"note": "call 954-545-7194"}]}]})
    [Exposure(kind='phone', place='tables.rows.note')]
    """
    found = {
        Exposure(kind, place)
        for place, text in _texts(content, ())
        for kind in _kinds_in(text)
        if kind in ALWAYS or kind == "sealed" or tier < "P2"
    }
    return sorted(found)


def check_exposure(content: Any, *, where: str, tier: str = "P1") -> None:
    """Refuse content with personal data.

    Raises
    ------
    ExposureError
        Names kinds and places, never values.
    """
    if found := exposures(content, tier=tier):
        places = ", ".join(f"{exposure.kind} in {exposure.place}" for exposure in found[:MOST_LISTED])
        more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
        raise ExposureError(
            where,
            f"personal data would be shown: {', '.join(kinds_of(found))}",
            rows=places + more,
            fix="leave the column out, or mask it in the source (names, type text); texts only on pages with tier: P2",
        )


def kinds_of(found: list[Exposure], lang: str = "en") -> list[str]:
    """The kinds in words, each once."""
    return [KIND_WORDS[kind][lang == "zh"] for kind in sorted({exposure.kind for exposure in found})]


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z_\-]{0,40}[0-9]{0,2}")
"""Keys that may be named in a message; one that is a value itself may not."""


def _texts(content: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield ".".join(path), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            if key not in NOT_SCANNED:
                yield from _texts(value, (*path, str(key) if _PLAIN_KEY.fullmatch(str(key)) else "..."))
                yield ".".join(path), str(key)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value, path)


_WORTH_A_LOOK = re.compile(r"[@＠]|[0-9０-９].{0,8}[0-9０-９].{0,8}[0-9０-９]", re.S)


def _kinds_in(text: str) -> set[str]:
    kinds = set()
    if len(text) >= 6 and _WORTH_A_LOOK.search(text):
        kinds = {finding.kind for finding in find(text)} & ALWAYS
    if _PSEUDONYM.search(text):
        kinds.add("pseudonym")
    if SEAL in text:
        kinds.add("sealed")
    if opened_passages.holds(text):
        kinds.add("text")
    return kinds


def withheld_outputs(notebook: Mapping[str, Any], *, tier: str = "P1") -> tuple[list[Exposure], dict[str, Any]]:
    """Personal data in the outputs of an executed notebook, and the notebook without the outputs that hold any."""
    found: set[Exposure] = set()
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        outputs = []
        for output in cell.get("outputs", []):
            seen = exposures(_shown(output), tier=tier)
            found |= {Exposure(exposure.kind, f"cell {number}") for exposure in seen}
            outputs += [] if seen else [output]
        cells.append({**cell, "outputs": outputs} if "outputs" in cell else cell)
    if not found:
        return [], dict(notebook)
    metadata = {key: value for key, value in notebook.get("metadata", {}).items() if key != "widgets"}
    return sorted(found), {**notebook, "cells": cells, "metadata": metadata}


def _shown(output: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader of an output sees; pictures have no text."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    said = {name: output[name] for name in ("text", "ename", "evalue", "traceback") if name in output}
    return {"data": data, **{name: "".join(text) if isinstance(text, list) else text for name, text in said.items()}}
