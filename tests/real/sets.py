"""Real files and the example sources that load them; the files are not in the repository.

They are looked for in $AFTERSALES_SHARED, else in `shared` beside the repository.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aftersales.collect.ingest import Delivery, ingest_source
from aftersales.collect.mapping import read_source
from aftersales.lake.engine import connect
from aftersales.lake.store import Snapshot, Store
from aftersales.model.settings import Workspace, open_workspace

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "data" / "sources" / "examples"
SHARED = Path(os.environ.get("AFTERSALES_SHARED") or ROOT.parent / "shared")

OLIST = "olist_sample/olist_{}_dataset.csv.gz"
RECALLS = "nhtsa_kia/kia_recalls.csv.gz"
SETS: Mapping[str, Mapping[str, str]] = {
    "kia": {
        "nhtsa_complaints": "nhtsa_kia/kia_complaints.csv.gz",
        "nhtsa_recalls": RECALLS,
        "nhtsa_recall_products": RECALLS,
    },
    "vehicles": {"vehicle_field_data": "field_warranty_weibulltools/field_data.csv.gz"},
    "incidents": {"incident_event_log": "itsm_uci_incidents/incident_event_log.csv.gz"},
    "alexa": {"alexa_reviews": "amazon_alexa/amazon_alexa.tsv.gz"},
    "cfpb": {"cfpb_complaints": "cfpb_2014/Consumer_Complaints.csv.gz"},
    "korea": {"korea_recalls": "korea_recalls/recall_korea_2011_2016.csv.gz"},
    "korea_files": {"korea_recall_files": "korea_recalls/raw_*"},
    "workorders": {"maintenance_workorders": "maintenance_workorders/work_orders.csv.gz"},
    "maude": {"maude_events": "maude_bone_cement/maude_2017.csv.gz"},
    "nyc": {"nyc_service_requests": "nyc311_sample/nyc311_sample.csv.gz"},
    "olist": {
        "olist_orders": OLIST.format("orders"),
        "olist_order_items": OLIST.format("order_items"),
        "olist_reviews": OLIST.format("order_reviews"),
        "olist_payments": OLIST.format("order_payments"),
        "olist_customers": OLIST.format("customers"),
        "olist_products": OLIST.format("products"),
        "olist_sellers": OLIST.format("sellers"),
        "olist_places": OLIST.format("geolocation"),
        "olist_categories": "olist_sample/product_category_name_translation.csv.gz",
    },
    "retail": {"online_retail": "online_retail_uci/online_retail.csv.gz"},
    "machines": {
        "pdm_machines": "pdm_azure/PdM_machines.csv.gz",
        "pdm_failures": "pdm_azure/PdM_failures.csv.gz",
        "pdm_maintenance": "pdm_azure/PdM_maint.csv.gz",
        "pdm_errors": "pdm_azure/PdM_errors.csv.gz",
    },
    "disks": {"ssd_failures": "ssd_alibaba/ssd_failure_tag.csv.gz"},
    "phones": {"jd_phone_reviews": "zh_reviews/jd_phones_tmp_test_data.csv.gz"},
    "phones_mixed": {"jd_phone_reviews_mixed": "zh_reviews/jd_phones_JDComment_data_mixed_encoding.csv.gz"},
    "shopping": {"shopping_reviews": "zh_reviews/online_shopping_10_cats.zip"},
    "annotations": {"annotated_workorders": "maintenance_workorders/maintie_gold.json.gz"},
}
"""Set -> its sources, each with the file (below `data/`) it loads, in the order of loading."""


def instant(year: int, month: int, day: int) -> dt.datetime:
    return dt.datetime(year, month, day, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Loaded:
    """A workspace after the example sources of a set have been loaded into it once."""

    workspace: Workspace
    snapshot: Snapshot
    ledger: Mapping[tuple[str, str], Delivery]
    """(source, table) -> counts, summed over the files of the source."""

    def reasons(self, kind: str, table: str) -> Counter[str]:
        """How often each reason stands in the quarantine."""
        rows = self.snapshot.table("quarantine").execute()
        rows = rows[(rows["kind"] == kind) & (rows["table"] == table)]
        return Counter(reason for reasons in rows["reasons"] for reason in reasons)


@dataclass(frozen=True)
class Sets:
    """The sets below `root`, each loaded when it is first asked for."""

    root: Path
    loaded: dict[str, Loaded] = field(default_factory=dict)

    def __call__(self, name: str) -> Loaded:
        if name not in self.loaded:
            files = {source: real_file(file) for source, file in SETS[name].items()}
            self.loaded[name] = load(self.root / name, files)
        return self.loaded[name]


def real_file(name: str) -> Path:
    """A file below `data/` of the shared folder; where it is absent the test is skipped."""
    path = SHARED / "data" / name
    if not any(path.parent.glob(path.name)):
        pytest.skip(f"real data are not here: {path} is absent (AFTERSALES_SHARED names the folder with data/)")
    return path


def rows_of(name: str, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a file as the standard library reads them."""
    with gzip.open(real_file(name), "rt", encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def load(root: Path, files: Mapping[str, Path], folder: Path = EXAMPLES) -> Loaded:
    """Load each source of `folder` from its file into a new workspace below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "workbench.yml").write_text("name: real data\n", encoding="utf-8")
    workspace = open_workspace(root)
    ledger: dict[tuple[str, str], Delivery] = {}
    for name, path in files.items():
        source = read_source(folder / f"{name}.yml", workspace)
        for deliveries in ingest_source(workspace, source, files=str(path)):
            for delivery in deliveries:
                place = (name, delivery.table)
                ledger[place] = _sum(ledger[place], delivery) if place in ledger else delivery
    return Loaded(workspace, Store(workspace.lake).pin(connect(workspace)), ledger)


COUNTS = ("rows_read", "accepted", "rejected", "duplicate", "left_out", "inserted", "corrected", "unchanged",
          "values_set_aside")  # fmt: skip


def _sum(one: Delivery, other: Delivery) -> Delivery:
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in COUNTS})
