"""Every set in the shared folder loads through its example source, and every row is accounted for with its reason."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from aftersales.collect.mapping import read_source
from aftersales.model.settings import open_workspace
from real.sets import EXAMPLES, SETS, SHARED, Sets

# source, table -> rows read, accepted, rejected, duplicate, left out, values set aside
LEDGER: dict[tuple[str, str], tuple[int, int, int, int, int, int]] = {
    ("nhtsa_complaints", "complaint"): (11_012, 10_996, 0, 16, 0, 29),
    ("nhtsa_complaints", "product"): (11_012, 139, 0, 10_873, 0, 0),
    ("nhtsa_complaints", "tag"): (15_295, 15_255, 0, 40, 0, 0),
    ("nhtsa_recalls", "recall"): (194, 69, 0, 125, 0, 0),
    ("nhtsa_recalls", "tag"): (227, 71, 0, 156, 0, 0),
    ("nhtsa_recall_products", "tag"): (194, 194, 0, 0, 0, 0),
    ("vehicle_field_data", "unit"): (10_684, 10_684, 0, 0, 0, 0),
    ("vehicle_field_data", "product"): (10_684, 5, 0, 10_679, 0, 0),
    ("vehicle_field_data", "repair"): (684, 684, 0, 0, 10_000, 0),
    ("incident_event_log", "ticket"): (141_712, 24_918, 0, 116_794, 0, 5),
    ("incident_event_log", "ticket_event"): (141_712, 141_712, 0, 0, 0, 5),
    ("alexa_reviews", "review"): (3_150, 2_436, 0, 714, 0, 0),
    ("alexa_reviews", "product"): (3_150, 16, 0, 3_134, 0, 0),
    ("cfpb_complaints", "complaint"): (8_340, 8_340, 0, 0, 0, 0),
    ("cfpb_complaints", "ticket"): (8_340, 8_340, 0, 0, 0, 0),
    ("cfpb_complaints", "product"): (8_340, 9, 0, 8_331, 0, 0),
    ("korea_recalls", "recall"): (1_653, 1_652, 0, 1, 0, 71),
    ("korea_recall_files", "recall"): (1_719, 1_719, 0, 0, 0, 86),
    ("maintenance_workorders", "repair"): (500, 499, 1, 0, 0, 0),
    ("maintenance_workorders", "unit"): (499, 8, 0, 491, 1, 0),
    ("maude_events", "complaint"): (535, 535, 0, 0, 0, 1),
    ("maude_events", "product"): (531, 144, 0, 387, 4, 0),
    ("nyc_service_requests", "ticket"): (10_000, 10_000, 0, 0, 0, 0),
    ("olist_orders", "order"): (8_135, 8_135, 0, 0, 0, 0),
    ("olist_order_items", "order_item"): (8_365, 8_365, 0, 0, 0, 0),
    ("olist_reviews", "review"): (8_225, 8_225, 0, 0, 0, 0),
    ("olist_payments", "payment"): (8_924, 8_924, 0, 0, 0, 0),
    ("olist_customers", "customer"): (8_135, 8_135, 0, 0, 0, 0),
    ("olist_products", "product"): (5_460, 5_460, 0, 0, 0, 0),
    ("olist_sellers", "store"): (1_610, 1_610, 0, 0, 0, 0),
    ("olist_places", "place"): (45_928, 36_900, 0, 9_028, 0, 0),
    ("olist_categories", "code_map"): (71, 71, 0, 0, 0, 0),
    ("online_retail", "order"): (541_909, 536_641, 0, 5_268, 0, 0),
    ("online_retail", "customer"): (406_829, 4_372, 0, 402_457, 135_080, 0),
    ("online_retail", "product"): (541_909, 3_958, 0, 537_951, 0, 0),
    ("pdm_machines", "unit"): (100, 100, 0, 0, 0, 0),
    ("pdm_machines", "product"): (100, 4, 0, 96, 0, 0),
    ("pdm_failures", "repair"): (761, 761, 0, 0, 0, 0),
    ("pdm_maintenance", "part_use"): (3_286, 3_286, 0, 0, 0, 0),
    ("pdm_errors", "telemetry_event"): (3_919, 3_919, 0, 0, 0, 0),
    ("ssd_failures", "ticket"): (18_387, 18_387, 0, 0, 0, 0),
    ("ssd_failures", "repair"): (18_387, 18_387, 0, 0, 0, 0),
    ("ssd_failures", "unit"): (18_387, 18_387, 0, 0, 0, 0),
    ("ssd_failures", "product"): (18_387, 11, 0, 18_376, 0, 0),
    ("jd_phone_reviews", "review"): (4_722, 4_722, 0, 0, 0, 4_722),
    ("jd_phone_reviews", "product"): (4_722, 11, 0, 4_711, 0, 0),
    ("jd_phone_reviews_mixed", "review"): (1_885, 1_817, 40, 28, 0, 0),
    ("jd_phone_reviews_mixed", "product"): (1_845, 3, 0, 1_842, 40, 0),
    ("shopping_reviews", "review"): (62_774, 62_773, 0, 1, 0, 0),
    ("shopping_reviews", "product"): (62_774, 10, 0, 62_764, 0, 0),
    ("annotated_workorders", "repair"): (1_076, 1_076, 0, 0, 0, 0),
    ("annotated_workorders", "text_tag"): (3_397, 3_397, 0, 0, 0, 0),
}

# source, table, kind -> how often each reason stands in the quarantine
REASONS: dict[tuple[str, str, str], dict[str, int]] = {
    ("nhtsa_complaints", "complaint", "value"): {
        "occurred_at:before_2000-01-01": 27,
        "occurred_at:after_received_at": 2,
    },
    ("nhtsa_complaints", "complaint", "duplicate"): {"key:repeated_with_other_content": 15},
    ("incident_event_log", "ticket", "value"): {"status:unknown_value": 5},  # of earlier states, too
    ("incident_event_log", "ticket_event", "value"): {"to_status:unknown_value": 5},
    ("korea_recalls", "recall", "value"): {
        "built_from:type": 35,
        "built_to:type": 33,
        "built_to:before_built_from": 3,
    },
    ("korea_recall_files", "recall", "value"): {
        "built_from:type": 39,
        "built_to:type": 43,
        "built_to:before_built_from": 4,
    },
    ("maintenance_workorders", "repair", "row"): {"x_work_centre:unknown_value": 1},
    ("maude_events", "complaint", "value"): {"severity:unknown_value": 1},
    ("maude_events", "product", "duplicate"): {"key:repeated_with_other_content": 72},
    ("jd_phone_reviews", "review", "value"): {"author_key:destroyed_by_excel": 4_722},
    ("jd_phone_reviews_mixed", "review", "row"): {
        "row:undecodable": 13,
        "row:repeated_header": 1,
        "published_at:missing": 24,
        "published_at:type": 16,
        "known_at:missing": 24,
        "known_at:type": 16,
        "stars:missing": 24,
        "stars:above_5": 14,
        "stars:type": 2,
        "product_id:missing": 1,
        "likes:type": 3,
        "replies_n:type": 2,
    },
}


def sources_of(name: str) -> set[str]:
    return set(SETS[name])


@pytest.mark.parametrize("name", SETS)
def test_every_row_is_read_and_accepted_rejected_or_a_duplicate(sets: Sets, name: str) -> None:
    loaded = sets(name)
    found = {
        place: (d.rows_read, d.accepted, d.rejected, d.duplicate, d.left_out, d.values_set_aside)
        for place, d in loaded.ledger.items()
    }
    assert found == {place: counts for place, counts in LEDGER.items() if place[0] in sources_of(name)}
    for delivery in loaded.ledger.values():
        assert delivery.rows_read == delivery.accepted + delivery.rejected + delivery.duplicate
        assert delivery.accepted == delivery.inserted + delivery.corrected + delivery.unchanged


@pytest.mark.parametrize("name", SETS)
def test_what_was_set_aside_has_these_reasons_and_no_others(sets: Sets, name: str) -> None:
    rows = sets(name).snapshot.table("quarantine").execute()
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for source, table, kind, reasons in zip(rows["source"], rows["table"], rows["kind"], rows["reasons"], strict=True):
        found.setdefault((source, table, kind), Counter()).update(reasons)
    assert found == {place: reasons for place, reasons in REASONS.items() if place[0] in sources_of(name)}
    assert rows["raw"].notna().all()


@pytest.mark.parametrize("name", SETS)
def test_the_lake_holds_one_current_row_for_every_accepted_one(sets: Sets, name: str) -> None:
    loaded = sets(name)
    accepted = Counter[str]()
    for (_, table), delivery in loaded.ledger.items():
        accepted[table] += delivery.inserted
    assert {table: loaded.snapshot.table(table).count().execute() for table in accepted} == accepted


def test_no_file_of_the_shared_folder_is_without_a_source() -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real data are not here: {SHARED / 'data'} is absent")
    files = {
        path.relative_to(SHARED / "data").as_posix()
        for path in (SHARED / "data").rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    read = {
        path.relative_to(SHARED / "data").as_posix()
        for sources in SETS.values()
        for pattern in sources.values()
        for path in (SHARED / "data").glob(pattern)
    }
    assert files == read


# ---------------------------------------------------------------------------------------------- the example files


def header(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\nname:")[0]


YOUR_OWN = ("call_transcripts", "fleet_claims", "survey_callbacks")
"""Examples for data nobody publishes; test_transcripts and test_exchange try them on files made up there."""

FILE_EXAMPLES = [path for path in sorted(EXAMPLES.glob("*.yml")) if "\nconnector: files\n" in path.read_text("utf-8")]
"""The others are fetched; the tests of their connectors try them."""


def test_every_example_is_tried_on_a_real_file() -> None:
    published = sorted(source for sources in SETS.values() for source in sources)
    assert [path.stem for path in FILE_EXAMPLES] == sorted([*published, *YOUR_OWN])


@pytest.mark.parametrize("path", FILE_EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_is_its_licence_and_where_the_file_goes(path: Path, tmp_path: Path) -> None:
    (tmp_path / "workbench.yml").write_text("name: examples\n", encoding="utf-8")
    source = read_source(path, open_workspace(tmp_path))
    assert source.files.startswith("data/raw/")
    assert source.licence
    assert set(source.title) == {"en", "zh"}
    assert re.search("^# What +:", header(path))
    see = re.search(r"See[\s#]+(\w+)\.yml for[\s#]+where[\s#]+it[\s#]+comes[\s#]+from,[\s#]+its", header(path))
    told = header(EXAMPLES / f"{see[1]}.yml") if see else header(path)
    for part in ("From", "Licence", "Put it"):
        assert re.search(f"^# {part} *:", told, re.MULTILINE), part
    assert "aftersales ingest" in told


def test_the_readme_of_the_examples_names_every_one() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.glob("*.yml")) if f"`{path.name}`" not in text] == []
