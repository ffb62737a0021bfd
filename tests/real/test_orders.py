"""Two shops: keys that resolve, delivery against satisfaction, cancellations and the outliers among them."""

from __future__ import annotations

import pandas as pd
import pytest

from aftersales.measure.compute import compute
from real.sets import SETS, Loaded, Sets, instant, rows_of


def frame(loaded: Loaded, table: str, *columns: str) -> pd.DataFrame:
    return loaded.snapshot.table(table).select(*columns).execute()


# ------------------------------------------------------------------------------------------------- the marketplace


@pytest.fixture(scope="module")
def market(sets: Sets) -> Loaded:
    return sets("olist")


@pytest.mark.parametrize(
    ("table", "column", "target", "key"),
    [
        ("order", "customer_key", "customer", "customer_key"),
        ("order_item", "order_id", "order", "order_id"),
        ("order_item", "product_id", "product", "product_id"),
        ("order_item", "store_id", "store", "store_id"),
        ("review", "order_id", "order", "order_id"),
        ("payment", "order_id", "order", "order_id"),
    ],
)
def test_every_key_resolves(market: Loaded, table: str, column: str, target: str, key: str) -> None:
    held = set(frame(market, target, key)[key])
    asked = frame(market, table, column)[column]
    assert asked.notna().all()
    assert set(asked) <= held


def delivered(market: Loaded) -> pd.DataFrame:
    orders = frame(market, "order", "order_id", "customer_key", "ordered_at", "delivered_at", "promised_at", "status")
    orders = orders[orders["delivered_at"].notna()]
    return orders.assign(late=orders["delivered_at"] > orders["promised_at"])


def test_late_orders_and_their_stars(market: Loaded) -> None:
    orders = delivered(market)
    assert (len(orders), orders["late"].sum()) == (5_170, 415)
    assert round(orders["late"].mean(), 3) == 0.080
    stars = frame(market, "review", "order_id", "stars").merge(orders, on="order_id")
    assert stars.groupby("late")["stars"].mean().round(2).to_dict() == {True: 2.50, False: 4.28}


def test_late_orders_by_month_of_purchase_and_by_state(market: Loaded) -> None:
    orders = delivered(market)
    months = orders["ordered_at"].dt.tz_convert("America/Sao_Paulo").dt.strftime("%Y-%m")
    shares = orders.groupby(months)["late"].mean().round(3)
    assert shares[["2018-02", "2018-03", "2017-11"]].tolist() == [0.173, 0.210, 0.144]
    states = orders.merge(frame(market, "customer", "customer_key", "region"), on="customer_key")
    assert states.groupby("region")["late"].mean().round(3)[["BA", "RJ"]].tolist() == [0.149, 0.129]


def test_undelivered_orders_stay(market: Loaded) -> None:
    states = frame(market, "order", "status")["status"].value_counts()
    assert states[["delivered", "canceled", "unavailable"]].tolist() == [5_172, 625, 609]


def test_review_numbers_repeat_under_other_orders_and_texts_stay(market: Loaded) -> None:
    reviews = frame(market, "review", "review_id", "body")
    numbers = reviews["review_id"].str.split("/").str[0]
    assert len(reviews) - numbers.nunique() == 34
    texts = [row["review_comment_message"] for row in rows_of(SETS["olist"]["olist_reviews"])]
    assert (sum(map(bool, texts)), sum(bool(text.strip()) for text in texts)) == (4_113, 4_109)
    assert reviews["body"].notna().sum() == 4_109


def test_categories_have_english_names_but_two(market: Loaded) -> None:
    used = set(frame(market, "product", "category")["category"].dropna())
    assert used - set(frame(market, "code_map", "source_value")["source_value"]) == {
        "pc_gamer",
        "portateis_cozinha_e_preparadores_de_alimentos",
    }


def test_satisfaction_by_stars_of_a_shop_that_hides_nothing(market: Loaded) -> None:
    raw = [int(row["review_score"]) for row in rows_of(SETS["olist"]["olist_reviews"])]
    result = compute(market.snapshot, "review_satisfaction", as_of=instant(2018, 12, 31))
    assert (result.state, result.notes) == ("ok", ())
    row = result.rows.iloc[0]
    assert (row["base"], row["count"]) == (8_225, sum(score >= 4 for score in raw))


# --------------------------------------------------------------------------------------------------- the gift shop


@pytest.fixture(scope="module")
def shop(sets: Sets) -> Loaded:
    return sets("retail")


@pytest.fixture(scope="module")
def lines(shop: Loaded) -> pd.DataFrame:
    return frame(shop, "order", "order_id", "product_id", "customer_key", "status", "qty", "unit_price")


@pytest.fixture(scope="module")
def raw_lines() -> list[dict[str, str]]:
    return rows_of(SETS["retail"]["online_retail"])


def test_cancellations_customers_and_duplicates_are_those_of_the_file(
    shop: Loaded, lines: pd.DataFrame, raw_lines: list[dict[str, str]]
) -> None:
    distinct = {tuple(row.values()) for row in raw_lines}
    assert (len(raw_lines), len(raw_lines) - len(distinct)) == (541_909, 5_268)
    assert sum(row["InvoiceNo"].startswith("C") for row in raw_lines) == 9_288
    assert sum(not row["CustomerID"] for row in raw_lines) == 135_080
    assert sum(float(row["Quantity"]) < 0 for row in raw_lines) == 10_624
    # the lake has each of the distinct rows once
    assert lines["status"].value_counts().to_dict() == {
        "completed": sum(row[0][0] not in "CA" for row in distinct),
        "cancelled": sum(row[0].startswith("C") for row in distinct),
        "debt_adjusted": 3,
    }
    assert lines["customer_key"].isna().sum() == sum(not row[6] for row in distinct)
    assert (lines["qty"] < 0).sum() == sum(float(row[3]) < 0 for row in distinct)
    assert shop.ledger["online_retail", "customer"].left_out == 135_080


def test_return_invoices_name_a_product_and_quantities_name_two_reversals(lines: pd.DataFrame) -> None:
    returns = lines[lines["status"] == "cancelled"]
    invoices = returns.groupby("product_id")["order_id"].nunique().sort_values(ascending=False)
    goods = invoices[invoices.index.str.match(r"^\d{5}")]
    assert (goods.index[0], goods.iloc[0]) == ("22423", 180)
    pieces = returns.groupby("product_id")["qty"].sum().sort_values()
    assert pieces.index[:2].tolist() == ["23843", "23166"]
    reversal = returns[returns["product_id"] == "23843"]
    assert reversal["qty"].tolist() == [-80_995]
    ordered = lines[(lines["product_id"] == "23843") & (lines["status"] == "completed")]
    assert ordered["qty"].tolist() == [80_995]


def test_a_product_keeps_the_description_it_had_last(shop: Loaded, raw_lines: list[dict[str, str]]) -> None:
    last: dict[str, str] = {}
    newest: dict[str, set[str]] = {}
    for row in raw_lines:
        code, moment = row["StockCode"].upper(), row["InvoiceDate"]
        if moment > last.get(code, ""):
            last[code], newest[code] = moment, set()
        if moment == last[code]:
            newest[code].add(row["Description"].strip())
    found = frame(shop, "product", "product_id", "description").fillna("")
    assert len(found) == len(newest) == 3_958
    for code, text in zip(found["product_id"], found["description"], strict=True):
        assert text in newest[code], code
