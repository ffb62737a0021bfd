"""Files as received -> one raw table of text. Nothing is renamed, typed or dropped here.

`raw`, a table or a view on the file, has the file's own columns (all text), `_row` (1, 2, ... in the order of the file)
and `_bad` (a reason when the line itself is broken, else null); of a workbook also `_sheet`. A repeated header
`category` becomes `category`, `category#2`; names that differ in case only count as repeated. Blank lines and blank
sheet rows are no rows.

`received` finds files and members of archives and fingerprints them, `encodings` reads bytes as text, `raw` makes the
table.
"""

from aftersales.collect.connectors.files.delimited import UNNUMBERED
from aftersales.collect.connectors.files.encodings import examine
from aftersales.collect.connectors.files.names import unique_names
from aftersales.collect.connectors.files.raw import load_raw
from aftersales.collect.connectors.files.received import (
    ReceivedFile,
    check_unchanged,
    format_of,
    matching_files,
    receive,
    received_files,
)

__all__ = [
    "UNNUMBERED",
    "ReceivedFile",
    "check_unchanged",
    "examine",
    "format_of",
    "load_raw",
    "matching_files",
    "receive",
    "received_files",
    "unique_names",
]
