"""Another maker's file with the same columns loads with a copied example: a few lines are changed, no Python."""

from __future__ import annotations

import csv
import difflib
import random
from pathlib import Path

import pytest

from real.sets import EXAMPLES, load

COLUMNS = ("ODINumber", "Manufacturer", "Crash", "Fire", "NumberOfInjured", "NumberOfDeaths", "DateComplaintFiled",
           "Component", "Summary", "ProductType", "ModelYear", "Make", "Model", "DateofIncident", "VIN")  # fmt: skip
MODELS = ("TEMPEST", "BREEZE", "GALE")
COMPONENTS = ("ENGINE", "AIR BAGS:FRONTAL | SEAT BELTS", "STEERING", "ELECTRICAL SYSTEM:WIRING | FUEL SYSTEM")
OF_OURS = {
    "name: nhtsa_complaints": "name: zephyr_complaints",
    "title: {en: NHTSA owner complaints, zh: NHTSA 车主投诉}": "title: {en: Zephyr owner complaints, zh: 泽飞车主投诉}",
    "owner: field quality": "owner: Zephyr quality desk",
    "files: data/raw/nhtsa_kia/*complaints*.csv*": "files: data/raw/zephyr/*.csv",
    "cadence: once": "cadence: weekly",
    "fresh_within_hours: 100000": "fresh_within_hours: 200",
}
"""Line of the example -> line of the copy."""


def extract(path: Path, rows: int = 200) -> list[dict[str, str]]:
    """Complaints about a made-up maker as NHTSA writes them: two repeated numbers, one incident after its filing."""
    chance = random.Random(20261122)
    found = []
    for i in range(rows):
        filed = 1_262_322_000_000 + i * 86_400_000
        happened = filed - chance.randrange(90) * 86_400_000 if i != 7 else filed + 864_000_000
        found.append(dict(zip(COLUMNS, (
            str(20_000_000 + (i if i not in (50, 60) else i - 1)), "Zephyr Motors", "No", chance.choice(["No", "Yes"]),
            chance.choice("001"), "0", f"/Date({filed}-0500)/", chance.choice(COMPONENTS), f"IT STALLED, MILE {i}",
            "VEHICLE", str(2008 + i % 3), "ZEPHYR", chance.choice(MODELS), f"/Date({happened}-0500)/", "1ZEF0000000",
        ), strict=True)))  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(found)
    return found


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The example under another name, with the lines of `OF_OURS` changed."""
    text = (EXAMPLES / "nhtsa_complaints.yml").read_text(encoding="utf-8")
    for theirs, ours in OF_OURS.items():
        assert text.count(theirs + "\n") == 1, theirs
        text = text.replace(theirs + "\n", ours + "\n")
    path = tmp_path / "zephyr_complaints.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_fewer_than_15_lines_are_changed(copied: Path) -> None:
    example = (EXAMPLES / "nhtsa_complaints.yml").read_text(encoding="utf-8").splitlines()
    lines = list(difflib.unified_diff(example, copied.read_text(encoding="utf-8").splitlines(), n=0, lineterm=""))
    added = [line for line in lines if line.startswith("+") and not line.startswith("+++")]
    removed = [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert (len(added), len(removed)) == (6, 6)


def test_the_copy_loads_another_makers_extract_row_by_row(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "zephyr_2010.csv"
    rows = extract(file)
    loaded = load(tmp_path / "work", {"zephyr_complaints": file}, folder=copied.parent)
    ledger = loaded.ledger["zephyr_complaints", "complaint"]
    assert (ledger.rows_read, ledger.accepted, ledger.rejected, ledger.duplicate) == (200, 198, 0, 2)
    assert loaded.reasons("value", "complaint") == {"occurred_at:after_received_at": 1}
    complaints = loaded.snapshot.table("complaint").execute()
    last = {row["ODINumber"]: row for row in rows}
    assert dict(zip(complaints["complaint_id"], complaints["product_id"], strict=True)) == {
        number: f"ZEPHYR/{row['Model']}/{row['ModelYear']}" for number, row in last.items()
    }
    fires = {number for number, row in last.items() if row["Fire"] == "Yes"}
    assert set(complaints[complaints["safety_flag"]]["complaint_id"]) == fires
    labels = {(row["ODINumber"], label) for row in rows for label in row["Component"].split(" | ")}
    tags = loaded.snapshot.table("tag").execute()
    assert set(zip(tags["source_id"], tags["tag"], strict=True)) == labels
