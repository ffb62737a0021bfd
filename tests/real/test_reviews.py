"""Public reviews: what was collected is not what customers feel."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from aftersales.measure.compute import compute
from real.sets import EXAMPLES, SETS, Loaded, Sets, instant, load, real_file, rows_of

STARS = {5.0: 2_286, 4.0: 455, 3.0: 152, 2.0: 96, 1.0: 161}


# ----------------------------------------------------------------------------------------------- telephones, Chinese


@pytest.fixture(scope="module")
def phones(sets: Sets) -> Loaded:
    return sets("phones")


def test_every_review_has_five_stars(phones: Loaded) -> None:
    reviews = phones.snapshot.table("review").drop("body", "title").execute()
    assert Counter(reviews["stars"]) == {5.0: 4_722}
    assert reviews["product_id"].nunique() == 11
    shanghai = reviews["published_at"].dt.tz_convert("Asia/Shanghai")
    assert (str(shanghai.min()), str(shanghai.max())) == ("2018-09-12 18:24:00+08:00", "2020-03-06 18:50:00+08:00")


@pytest.mark.parametrize("by", [[], ["model"], ["platform"]])
def test_all_five_stars_is_selection_and_never_a_satisfaction_of_100_per_cent(phones: Loaded, by: list[str]) -> None:
    result = compute(phones.snapshot, "review_satisfaction", by=by, as_of=instant(2020, 12, 31))
    assert (result.state, result.rows.empty) == ("refused", True)
    assert "selection" in result.refusal("en")
    assert "every one of 4,722 answers of jd_phone_reviews is 5" in result.refusal("en")
    assert "样本选择" in result.refusal("zh")
    assert "来源 jd_phone_reviews 的 4,722 个回答全部为 5" in result.refusal("zh")
    assert "100" not in result.summary("en") + result.summary("zh")


def test_several_lines_of_one_text_are_one_review(phones: Loaded) -> None:
    raw = {row["评论内容"].strip() for row in rows_of(SETS["phones"]["jd_phone_reviews"])}
    assert (len(raw), sum("\n" in text for text in raw)) == (4_719, 1_802)
    assert phones.snapshot.table("review").body.nunique().execute() > 4_600  # masking may make two texts equal


def test_ids_a_spreadsheet_destroyed_are_set_aside_and_reported(phones: Loaded) -> None:
    raw = {row["用户ID"] for row in rows_of(SETS["phones"]["jd_phone_reviews"])}
    assert (len(raw), all("E+11" in number for number in raw)) == (7, True)
    assert phones.snapshot.table("review").author_key.notnull().sum().execute() == 0
    assert phones.reasons("value", "review") == {"author_key:destroyed_by_excel": 4_722}


# ---------------------------------------------------------------------------------------------- loudspeakers, English


@pytest.fixture(scope="module")
def speakers(sets: Sets) -> Loaded:
    return sets("alexa")


def test_reviews_repeated_word_for_word_are_counted_once(speakers: Loaded) -> None:
    raw = rows_of(SETS["alexa"]["alexa_reviews"], "\t")
    assert Counter(float(row["rating"]) for row in raw) == STARS
    distinct = {tuple(cell.strip() for cell in row.values()) for row in raw}
    assert len(raw) - len(distinct) == 714
    reviews = speakers.snapshot.table("review").execute()
    assert Counter(reviews["stars"]) == Counter(float(row[0]) for row in distinct)
    assert reviews["body"].isna().sum() == sum(not row[3] for row in distinct)


def test_with_the_row_as_the_key_every_star_stays(tmp_path: Path) -> None:
    text = (EXAMPLES / "alexa_reviews.yml").read_text(encoding="utf-8")
    key = "{from: [rating, date, variation, verified_reviews, feedback], digest: true}"
    (tmp_path / "alexa_reviews.yml").write_text(text.replace(key, '{from: ["@file", "@row"], join: "/"}'), "utf-8")
    files = {"alexa_reviews": real_file(SETS["alexa"]["alexa_reviews"])}
    loaded = load(tmp_path, files, folder=tmp_path)
    assert Counter(loaded.snapshot.table("review").stars.execute()) == STARS
    result = compute(loaded.snapshot, "review_satisfaction", as_of=instant(2018, 12, 31))
    row = result.rows.iloc[0]
    assert (row["count"], row["base"], result.notes) == (2_286 + 455, 3_150, ())


def test_days_written_with_the_name_of_the_month(speakers: Loaded) -> None:
    published = speakers.snapshot.table("review").published_at
    assert (str(published.min().execute())[:10], str(published.max().execute())[:10]) == ("2018-05-16", "2018-07-31")


# ------------------------------------------------------------------------------------- telephones, as they were collected


@pytest.fixture(scope="module")
def collected(sets: Sets) -> Loaded:
    return sets("phones_mixed")


def test_lines_that_no_encoding_reads_cost_their_rows_and_no_others(collected: Loaded) -> None:
    aside = collected.snapshot.table("quarantine").execute()
    undecodable = aside[[("row:undecodable" in reasons) for reasons in aside["reasons"]]]
    assert len(undecodable) == 13
    reviews = collected.snapshot.table("review").execute()
    assert Counter(reviews["product_id"]) == {"100008348542": 966, "100006947212": 753, "100000287117": 98}
    assert not reviews["body"].str.contains("\ufffd").any()
    assert (reviews["body"].str.count("\n") + 1).sum() > 5_000  # most of the 5,980 lines


def test_the_collected_ones_have_five_stars_too(collected: Loaded) -> None:
    assert set(collected.snapshot.table("review").stars.execute()) == {5.0}
    assert compute(collected.snapshot, "review_satisfaction", as_of=instant(2020, 12, 31)).state == "refused"


# -------------------------------------------------------------------------------------------------- ten categories


def test_labels_by_category(sets: Sets) -> None:
    reviews = sets("shopping").snapshot.table("review")
    reviews = reviews.select("product_id", "is_positive", "stars", has_text=reviews.body.notnull()).execute()
    shares = reviews.groupby("product_id")["is_positive"].agg(["size", "mean"]).round(3)
    assert shares.loc["热水器"].tolist() == [575, 0.826]
    assert shares.loc["手机"].tolist() == [2_323, 0.502]
    assert round(reviews["is_positive"].mean(), 3) == 0.505  # 50.54 %; its README rounds to 50.6
    assert (~reviews["has_text"]).sum() == 1
    assert (len(reviews), reviews["stars"].notna().sum()) == (62_773, 0)
