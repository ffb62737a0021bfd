"""The error tree. Every message has four parts: where, what with figures, example rows, what to do next."""

from __future__ import annotations


class AftersalesError(Exception):
    """Base of all errors the workbench raises on purpose.

    Parameters
    ----------
    where
        The file, table, page or metric the problem is in.
    what
        What is wrong, with figures.
    rows
        An example or the ids concerned; empty when there is none. Never personal data.
    fix
        What the reader can do next.

    Examples
    --------
    >>> print(AftersalesError("ticket", "3 of 1,204 rows close before they open", rows="17, 402, 981",
    ...                       fix="check time_zone in data/sources/crm.yml"))
    ticket: 3 of 1,204 rows close before they open
      rows : 17, 402, 981
      fix  : check time_zone in data/sources/crm.yml
    """

    exit_code = 3

    def __init__(self, where: str, what: str, *, rows: str = "", fix: str = "") -> None:
        super().__init__(where, what)
        self.where, self.what, self.rows, self.fix = where, what, rows, fix

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}"]
        lines += [f"  {name:<5}: {text}" for name, text in (("rows", self.rows), ("fix", self.fix)) if text]
        return "\n".join(lines)


class SettingsError(AftersalesError):
    """workbench.yml or another YAML breaks its schema."""

    exit_code = 2


class SourceError(AftersalesError):
    """A file or feed is not what its channel promises."""


class SchemaError(AftersalesError):
    """A table lacks a column, type or value its schema promises."""


class MetricError(AftersalesError):
    """An unknown metric, or one asked for at a grain it does not have."""

    exit_code = 2


class ParameterError(AftersalesError):
    """A page was given a parameter it does not have, or a value it does not take."""

    exit_code = 2


class AccessError(AftersalesError):
    """The role may not see this table, column or region."""

    exit_code = 1


class DeliveryError(AftersalesError):
    """A message or report could not be handed over."""


def known_names(names: object, limit: int = 12) -> str:
    """`known: a, b, c, ...` for messages about a wrong name.

    Examples
    --------
    >>> known_names(["nps", "csat"])
    'known: csat, nps'
    """
    listed = sorted(str(name) for name in names)  # type: ignore[attr-defined]
    tail = ", ..." if len(listed) > limit else ""
    return "known: " + (", ".join(listed[:limit]) + tail if listed else "none")
