"""Ingestion, the page a data owner opens every morning: what came, what is wrong with it, and what to do about it."""

from __future__ import annotations

from aftersales.publish.contents.ingestion.arrivals import arrived, files, volumes
from aftersales.publish.contents.ingestion.attention import answer
from aftersales.publish.contents.ingestion.problems import checks, codes, drift, duplicates, rejected
from aftersales.publish.contents.ingestion.sources import scored

SECTIONS = {
    "answer": answer,
    "sources": scored,
    "arrived": arrived,
    "volume": volumes,
    "rejected": rejected,
    "drift": drift,
    "codes": codes,
    "checks": checks,
    "duplicates": duplicates,
    "files": files,
}
