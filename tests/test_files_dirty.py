"""Drop folders as they are: archives, several sheets, titles above headers, several encodings in one file."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from conftest import TICKETS, TestWorkspace
from test_files import raw, rows_of, source, values

from aftersales.collect.connectors.files import ReceivedFile, archives, matching_files, received_files
from aftersales.collect.ingest import Delivery
from aftersales.collect.mapping import Source
from aftersales.model.errors import SourceError

SHARED = Path(os.environ.get("AFTERSALES_SHARED") or Path(__file__).parent.parent.parent / "shared")
NAMES = "id,地区,note\n"


def shared(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"real data not here: {path}")
    return path


def counts(delivery: Delivery) -> tuple[int, int, int, int]:
    assert delivery.rows_read == delivery.accepted + delivery.rejected + delivery.duplicate
    return delivery.rows_read, delivery.accepted, delivery.rejected, delivery.duplicate


def received(given: Source, root: Path) -> list[ReceivedFile]:
    return list(received_files(matching_files(given, root), given, root))


# ------------------------------------------------------------------------------------ several encodings in one file

MIXED = b"".join(
    [
        NAMES.encode("utf-8-sig"),
        "1,华东,门锁坏了\n".encode(),
        "2,华北,电池漏液\n".encode("gb18030"),
        b"3,\xff\xfe\xff,x\n",
        '4,"第一行\n'.encode(),
        "第二行, 有逗号\n".encode("gb18030"),
        '第三行",好\n'.encode(),
        b'5,"open\n\x80\xff broken ""inside""\nend",z\n',
        "6,서울,".encode(),
        b"ok\n",
    ]
)


def test_every_line_is_read_in_the_first_encoding_that_fits_it(tmp_path: Path) -> None:
    rows = raw(tmp_path / "a.csv", MIXED, encoding=["utf-8", "gb18030"])
    assert rows == [
        {"id": "1", "地区": "华东", "note": "门锁坏了"},
        {"id": "2", "地区": "华北", "note": "电池漏液"},
        {"id": "3", "地区": r"\xff\xfe\xff", "note": "x", "_bad": "row:undecodable"},
        {"id": "4", "地区": "第一行\n第二行, 有逗号\n第三行", "note": "好"},
        {"id": "5", "地区": 'open\n\\x80\\xff broken "inside"\nend', "note": "z", "_bad": "row:undecodable"},
        {"id": "6", "地区": "서울", "note": "ok"},
    ]


def test_the_order_of_the_encodings_decides(tmp_path: Path) -> None:
    text = NAMES.encode() + "1,가나,x\n".encode("cp949") + "2,华东,y\n".encode()
    assert raw(tmp_path / "a.csv", text, encoding=["utf-8", "cp949", "gb18030"])[0]["地区"] == "가나"
    assert raw(tmp_path / "a.csv", text, encoding=["utf-8", "gb18030", "cp949"])[0]["地区"] != "가나"


def test_the_ledger_names_the_encodings_that_were_met(workspace: TestWorkspace) -> None:
    given = workspace.source("""
        owner: test
        files: data/raw/*
        encoding: [utf-8, gb18030, cp949]
        tables:
          ticket:
            columns: {ticket_id: id, created_at: at, known_at: at, region: 地区}
        """)
    header, good = "id,at,地区\n".encode(), "1,2024-01-01,华东\n"
    workspace.file("1.csv", header + good.encode())
    workspace.file("2.csv", header + good.encode() + "2,2024-01-01,华北\n".encode("gb18030"))
    workspace.file("3.csv", header + good.encode() + b"3,2024-01-01,\xff\n")
    ledgers = workspace.ingest(given)
    assert [ledger.encoding for ledger in ledgers] == ["utf-8", "utf-8+gb18030", "utf-8"]
    assert [counts(ledger) for ledger in ledgers] == [(1, 1, 0, 0), (2, 2, 0, 0), (2, 1, 1, 0)]
    assert workspace.rows("ticket", "ticket_id", "region") == [("1", "华东"), ("2", "华北")]
    ((reasons, text),) = workspace.rows("quarantine", "reasons", "raw")
    assert (reasons, r"\\xff" in text) == (["row:undecodable"], True)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_lines_end_where_they_end_whatever_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, chunk: int
) -> None:
    from aftersales.collect.connectors.files import received

    monkeypatch.setattr(received, "CHUNK", chunk)
    lines = [f"{i},地区{i}{end}".encode("gb18030" if i % 3 else "utf-8") for i in range(40)]
    rows = raw(tmp_path / "a.csv", f"id,v{end}".encode() + b"".join(lines), encoding=["utf-8", "gb18030"])
    assert values(rows) == [(str(i), f"地区{i}") for i in range(40)]


def test_json_lines_in_several_encodings(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "v": "锁"}\n'.encode(),
        '{"id": 2, "v": "电池"}\n'.encode("gb18030"),
        b'{"id": 3, "v": "\xff"}\n',
    ]
    rows = raw(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + b"".join(lines), encoding=["utf-8", "gb18030"])
    assert [(row["id"], row["v"]) for row in rows[:2]] == [("1", "锁"), ("2", "电池")]
    assert (rows[2]["_bad"], rows[2]["_line"]) == ("row:undecodable", r'{"id": 3, "v": "\xff"}')


def test_a_name_that_cannot_be_decoded_is_a_name_with_its_bytes(tmp_path: Path) -> None:
    rows = raw(tmp_path / "a.csv", b"id,\xff\xfe,v\n1,2,3\n", encoding=["utf-8", "gb18030"])
    assert rows == [{"id": "1", r"\xff\xfe": "2", "v": "3"}]


def test_a_file_in_none_of_the_encodings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none of its 2 lines is in utf-8, ascii"):
        raw(tmp_path / "a.csv", b"\xff,\xfe\n\xff,\xfe\n", encoding=["utf-8", "ascii"])


def test_a_marked_utf16_file_is_utf16_whatever_the_list_says(tmp_path: Path) -> None:
    assert values(raw(tmp_path / "a.csv", (NAMES + "1,华东,x\n").encode("utf-16"), encoding=["utf-8", "gb18030"])) == [
        ("1", "华东", "x")
    ]


def test_one_bad_line_of_a_declared_encoding_is_set_aside_when_it_stands_in_a_list(tmp_path: Path) -> None:
    text = NAMES.encode("cp949", "replace") + "1,가,x\n".encode("cp949") + b"2,\xff\xff,y\n"
    assert [row.get("_bad") for row in raw(tmp_path / "a.csv", text, encoding=["cp949"])] == [None, "row:undecodable"]


def test_phone_reviews_in_mixed_encodings_lose_no_line() -> None:
    path = shared("zh_reviews/jd_phones_JDComment_data_mixed_encoding.csv.gz")
    from aftersales.collect.connectors.files import examine, receive

    given = source(encoding=["utf-8", "gb18030"])
    file = examine(receive(path, given), given)
    assert (file.encoding, file.undecodable) == ("utf-8-sig", 13)


# ---------------------------------------------------------------------------------------- headers and their place


@pytest.mark.parametrize("header_row", [3, "find"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_titles_above_the_header(tmp_path: Path, header_row: int | str, end: str) -> None:
    text = f'Complaints 2024,,{end}"printed, at noon",,{end}id,地区,note{end}1,华东,x{end}2,"a, b",y{end}'
    given = {"header_row": header_row, "tables": {"ticket": {"columns": {"ticket_id": "id", "region": "地区"}}}}
    assert raw(tmp_path / "a.csv", text, **given) == [
        {"id": "1", "地区": "华东", "note": "x"},
        {"id": "2", "地区": "a, b", "note": "y"},
    ]


def test_a_header_that_is_looked_for_is_found_on_any_line_and_defaults_to_the_first(tmp_path: Path) -> None:
    given = {"header_row": "find", "tables": {"ticket": {"columns": {"ticket_id": ["id", "编号"]}}}}
    assert values(raw(tmp_path / "a.csv", "id,v\n1,2\n", **given)) == [("1", "2")]
    assert values(raw(tmp_path / "b.csv", "\nReport,\n,\n编号,v\n1,2\n", **given)) == [("1", "2")]
    assert list(raw(tmp_path / "c.csv", "\nno,v\n1,2\n", **given)[0]) == ["no", "v"]


def test_a_file_that_ends_before_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no line 4 for the header"):
        raw(tmp_path / "a.csv", "a,b\n1,2\n", header_row=4)
    with pytest.raises(SourceError, match="sheet data: has no line 4 for the header"):
        raw(book(tmp_path / "a.xlsx", {"data": [["a"], ["1"]]}), header_row=4)


def test_a_header_that_stands_in_the_file_again_is_set_aside(tmp_path: Path) -> None:
    rows = raw(tmp_path / "a.csv", NAMES + "1,华东,x\n\ufeffid,地区,note\n2,华北,y\nid,地区,z\n")
    assert [row.get("_bad") for row in rows] == [None, "row:repeated_header", None, None]
    assert values(raw(tmp_path / "one.csv", "a\na\nb\n", delimiter=",")) == [("a",), ("b",)]


def test_far_too_many_fields_are_set_aside(tmp_path: Path) -> None:
    rows = raw(tmp_path / "a.csv", NAMES + "1,b,c\n" + ",".join(map(str, range(23))) + "\n2,b,c\n")
    assert [row.get("_bad") for row in rows] == [None, "row:too_many_fields", None]
    assert [rows[1][name] for name in ("id", "note", "_surplus_1", "_surplus_8")] == ["0", "2", "3", "10"]


# ----------------------------------------------------------------------------------------------------- workbooks


def book(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    with xlsxwriter.Workbook(path) as target:
        for name, rows in sheets.items():
            sheet = target.add_worksheet(name)
            for place, row in enumerate(rows):
                sheet.write_row(place, 0, row)
    return path


SHEETS: dict[str, list[list[Any]]] = {
    "一月": [["January"], [], ["id", "v"], ["1", 2.5], ["id", "v"], ["2", 3]],
    "empty": [],
    "二月": [["February"], [], ["v", "ID", "extra"], [7, "3", "e"]],
}


def test_several_sheets_one_after_the_other(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", SHEETS)
    rows = raw(path, sheets="all", header_row=3)
    assert [(row["id"], row["v"], row["ID#2"], row["extra"], row.get("_bad")) for row in rows] == [
        ("1", "2.5", None, None, None),
        ("id", "v", None, None, "row:repeated_header"),
        ("2", "3", None, None, None),
        (None, "7", "3", "e", None),
    ]
    assert values(raw(path, sheets=["二月"], header_row=3)) == [("7", "3", "e")]
    assert raw(path, sheets="all", header_row=3) == raw(
        path,
        sheets="all",
        header_row="find",
        tables={"ticket": {"columns": {"ticket_id": ["id", "ID"], "region": "v"}}},
    )
    with pytest.raises(SourceError, match="no sheet '三月'\n  rows : sheets: 一月, empty, 二月"):
        raw(path, sheets=["一月", "三月"])


def test_rows_know_their_sheet_file_and_number(workspace: TestWorkspace) -> None:
    given = workspace.source("""
        owner: test
        files: data/raw/**/*.xlsx
        sheets: all
        header_row: 2
        tables:
          ticket:
            columns:
              ticket_id: {from: ["@file", "@sheet", "@row"], join: "#"}
              created_at: day
              known_at: day
              region: "@sheet"
        """)
    rows = [["title"], ["day"], ["2024-01-01"], ["2024-01-02"]]
    for folder in ("one", "two"):
        (workspace.root / "data" / "raw" / folder).mkdir(parents=True)
    book(workspace.root / "data" / "raw" / "one" / "a.xlsx", {"华东": rows, "华北": rows[:3]})
    book(workspace.root / "data" / "raw" / "two" / "a.xlsx", {"华南": rows[:3]})
    workspace.ingest(given)
    assert workspace.rows("ticket", "ticket_id", "region") == [
        ("one/a.xlsx#华东#1", "华东"),
        ("one/a.xlsx#华东#2", "华东"),
        ("one/a.xlsx#华北#3", "华北"),
        ("two/a.xlsx#华南#1", "华南"),
    ]
    assert sorted(set(workspace.rows("delivery", "source_file"))) == ["one/a.xlsx", "two/a.xlsx"]


def test_rows_of_a_csv_without_a_key_are_told_apart_by_their_number(workspace: TestWorkspace) -> None:
    given = workspace.source("""
        owner: test
        files: data/raw/*
        tables:
          ticket:
            columns:
              ticket_id: {from: ["@file", "@row"], join: "#"}
              created_at: at
              known_at: "@received"
              status: v
        """)
    path = workspace.file("a.csv", "at,v\n2024-01-01,x\n2024-01-01,x\n")
    os.utime(path, (1_704_110_400, 1_704_110_400))
    assert counts(workspace.ingest(given)[0]) == (2, 2, 0, 0)
    assert [(key, at.isoformat()) for key, at in workspace.rows("ticket", "ticket_id", "known_at")] == [
        ("a.csv#1", "2024-01-01T12:00:00+00:00"),
        ("a.csv#2", "2024-01-01T12:00:00+00:00"),
    ]


# -------------------------------------------------------------------------------------------------- drop folders


def test_a_drop_folder_is_searched_below_and_with_several_globs(tmp_path: Path) -> None:
    names = ["in/2024/01/a.csv", "in/2024/02/a.csv", "in/b.tsv", "in/.DS_Store", "in/~$c.csv", "other/c.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a,b\n1,2\n")
    given = source(files=["in/**/*.csv", "in/*"])
    found = [path.relative_to(tmp_path).as_posix() for path in matching_files(given, tmp_path)]
    assert found == ["in/2024/01/a.csv", "in/2024/02/a.csv", "in/b.tsv"]
    assert [file.name for file in received(given, tmp_path)] == ["2024/01/a.csv", "2024/02/a.csv", "b.tsv"]
    assert [file.name for file in received(source(files=str(tmp_path / "in/2024/01/*.csv")), tmp_path)] == ["a.csv"]
    with pytest.raises(SourceError, match=r"no file matches in/\*\.xml, in/\*\.pdf"):
        matching_files(source(files=["in/*.xml", "in/*.pdf"]), tmp_path)


class OldName(zipfile.ZipInfo):
    """A name as old programs write it: in the code page of their machine, without saying which."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode("gbk"), self.flag_bits & ~0x800


def zipped(path: Path, files: dict[str, bytes], kind: type[zipfile.ZipInfo] = zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = kind(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def text(*ids: int) -> bytes:
    return ("id,created,status,cost\n" + "".join(f"{i},2024-01-01,开,1\n" for i in ids)).encode()


def test_every_fitting_member_of_an_archive_is_a_delivery(workspace: TestWorkspace) -> None:
    inner = book(workspace.root / "b.xlsx", {"s": [["id", "created", "status", "cost"], ["4", "2024-01-01", "x", 1]]})
    workspace.file("readme.txt", "")
    path = zipped(
        workspace.root / "data" / "raw" / "三月.zip",
        {
            "华东/a.csv": text(1, 2),
            "华东/深/b.csv.gz": gzip.compress(text(3), mtime=0),
            "b.xlsx": inner.read_bytes(),
            "c.jsonl": b'{"id": 5, "created": "2024-01-01", "status": "x", "cost": 1}\n',
            "__MACOSX/._a.csv": b"\0\0",
            "notes.pdf": b"%PDF",
        },
    )
    given = workspace.source(TICKETS.replace("data/raw/*", "data/raw/*.zip"))
    first = workspace.ingest(given)
    assert [(ledger.source_file, ledger.accepted) for ledger in first] == [
        ("三月.zip/b.xlsx", 1),
        ("三月.zip/c.jsonl", 1),
        ("三月.zip/华东/a.csv", 2),
        ("三月.zip/华东/深/b.csv.gz", 1),
    ]
    assert workspace.rows("ticket", "ticket_id") == ["1", "2", "3", "4", "5"]
    assert [ledger.skipped for ledger in workspace.ingest(given)] == [True] * 4
    path.unlink()
    workspace.file("a.csv", text(1, 2))  # the same content outside the archive
    assert [ledger.skipped for ledger in workspace.ingest(given, files="data/raw/a.csv")] == [True]


def test_members_are_chosen_by_format_or_by_their_own_globs(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"x/a.csv": text(1), "x/b.tsv": text(1), "y/c.csv": text(2), "说明.md": b"x"})
    names = [file.name for file in received(source(files="*.zip", format="csv"), tmp_path)]
    assert names == ["a.zip/x/a.csv", "a.zip/y/c.csv"]
    names = [file.name for file in received(source(files="*.zip", members=["y/*", "*.tsv"]), tmp_path)]
    assert names == ["a.zip/x/b.tsv", "a.zip/y/c.csv"]
    with pytest.raises(SourceError, match="none of the 4 files in it is a delivery of this source"):
        received(source(files="*.zip", members=["z/*"]), tmp_path)
    assert path.exists()


@pytest.mark.parametrize("kind", [OldName, zipfile.ZipInfo])
def test_chinese_names_in_archives_are_read(tmp_path: Path, kind: type[zipfile.ZipInfo]) -> None:
    zipped(tmp_path / "a.zip", {"投诉/三月 工单.csv": text(1)}, kind)
    given = source(files="*.zip")
    (file,) = received(given, tmp_path)
    assert file.name == "a.zip/投诉/三月 工单.csv"


def flagged(path: Path) -> Path:
    """The archive with the flag of encryption on every member."""
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + place] |= 1
    path.write_bytes(bytes(data))
    return path


def damaged(path: Path) -> Path:
    """The archive with one wrong byte inside the member's content."""
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (flagged, "1 of 1 files in it are encrypted"),
        (cut, "the archive is cut off or damaged"),
        (damaged, "the archive is cut off or damaged"),
        (lambda path: path, "unpacks from"),
    ],
)
def test_an_archive_that_is_not_opened_says_so_in_four_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], Path], what: str
) -> None:
    if what == "unpacks from":
        monkeypatch.setattr(archives, "UNPACKED_FLOOR", 1000)
        monkeypatch.setattr(archives, "UNPACKED_RATIO", 20)
    spoil(zipped(tmp_path / "a.zip", {"a.csv": text(*range(1000)) + b"0" * 100_000}))
    with pytest.raises(SourceError) as caught:
        received(source(files="*.zip"), tmp_path)
    assert caught.value.where.startswith("a.zip")
    assert caught.value.what.startswith(what)
    assert caught.value.rows
    assert caught.value.fix


def test_a_compressed_file_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNPACKED_FLOOR", 2 << 20)
    with pytest.raises(SourceError, match=r"a.csv.gz: unpacks from 8,2.. to 3,... or more|over 200 times its size"):
        raw(tmp_path / "a.csv.gz", gzip.compress(b"a,b\n" + b"0" * (8 << 20), mtime=0))


def test_the_reviews_in_an_archive_are_all_read(tmp_path: Path) -> None:
    path = shared("zh_reviews/online_shopping_10_cats.zip")
    given = source(files=str(path))
    (file,) = received(given, tmp_path)
    assert file.name == "online_shopping_10_cats.zip/online_shopping_10_cats.csv"
    assert len(rows_of(file, given, tmp_path)) == 62_774


def test_recalls_of_six_years_under_changing_headers(workspace: TestWorkspace) -> None:
    shared("korea_recalls/raw_2014.xlsx")
    given = workspace.source(f"""
        owner: test
        files: {SHARED}/data/korea_recalls/raw_*
        encoding: cp949
        header_row: find
        time_zone: Asia/Seoul
        tables:
          recall:
            columns:
              recall_id: {{from: ["@file", "@row"], join: "#"}}
              published_at: {{from: 리콜개시일, before: "~", format: ["%Y-%m-%d", "%y.%m.%d", "%Y.%m.%d", "`%y.%m.%d"]}}
              known_at: {{from: 리콜개시일, before: "~", format: ["%Y-%m-%d", "%y.%m.%d", "%Y.%m.%d", "`%y.%m.%d"]}}
              defect: 리콜사유

        """)
    assert [counts(ledger) for ledger in workspace.ingest(given)] == [
        (83, 83, 0, 0),
        (79, 79, 0, 0),
        (90, 90, 0, 0),
        (395, 395, 0, 0),
        (495, 495, 0, 0),
        (577, 577, 0, 0),
    ]
