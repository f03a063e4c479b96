import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import openpyxl
import pytest

from HomeApp import workbook

COLUMNS = [("Name", 20), ("Value", 10)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "book.xlsx"


def read(path) -> dict[str, list[list]]:
    """Return the values of a workbook's sheets, as another library reads them."""
    book = openpyxl.load_workbook(path)
    return {sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book}


def test_rows_are_read_as_they_were_written(path):
    moment = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    rows = [("a", 1), ("b", 2.5), ("c", True), ("d", None), ("e", moment), ("", 0)]
    assert workbook.write(path, "Jobs", COLUMNS, iter(rows)) == 6
    values = [[name or None, value] for name, value in rows]
    values[4][1] = moment.replace(tzinfo=None)
    assert read(path) == {"Jobs": [["Name", "Value"], *values]}


def test_moments_are_written_as_utc(path):
    berlin = datetime(2026, 11, 21, 9, 30, tzinfo=timezone(timedelta(hours=1)))
    workbook.write(path, "Jobs", COLUMNS, [("a", berlin)])
    assert read(path)["Jobs"][1][1] == datetime(2026, 11, 21, 8, 30)  # noqa: DTZ001


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_looks_like_a_formula_stays_text(path, start):
    text = start + '1+HYPERLINK("http://example.org")'
    workbook.write(path, "Jobs", COLUMNS, [(text, 1)])
    cell = openpyxl.load_workbook(path)["Jobs"]["A2"]
    assert (cell.value.replace("_x000D_", "\r"), cell.data_type, cell.quotePrefix) == (text, "s", True)


@pytest.mark.parametrize(
    "text",
    [
        "<r>",
        "<r></r>",
        "<r><t>a</t></r>",
        "<r></is></c><c><f>1+1</f></c></r>",
        "</t></is>",
        "a & b < c",
        " a ",
        "a\nb",
        "Ünïcødé 🦀",
        "true",
        "12",
    ],
)
def test_no_text_becomes_anything_else(path, text):
    workbook.write(path, "Jobs", COLUMNS, [(text, 1), ("b", 2)])
    assert read(path)["Jobs"] == [["Name", "Value"], [text, 1], ["b", 2]]


def test_what_no_file_can_hold_is_replaced_and_what_is_too_long_is_cut(path):
    workbook.write(path, "Jobs", COLUMNS, [("\ud800", 1), ("x" * 40_000, 2), ("\x01", 3)])
    rows = read(path)["Jobs"]
    assert rows[1] == ["?", 1]
    assert rows[2] == ["x" * 32_767, 2]
    assert rows[3] == ["_x0001_", 3]  # as Excel itself writes control characters


def test_a_full_sheet_is_followed_by_another_with_the_same_heading(path, monkeypatch):
    monkeypatch.setattr(workbook, "SHEET_ROWS", 3)
    assert workbook.write(path, "Jobs", COLUMNS, [(str(n), n) for n in range(5)]) == 5
    sheets = read(path)
    assert list(sheets) == ["Jobs", "Jobs 2", "Jobs 3"]
    assert all(rows[0] == ["Name", "Value"] for rows in sheets.values())
    assert [row[1] for rows in sheets.values() for row in rows[1:]] == [0, 1, 2, 3, 4]


def test_no_rows_are_a_heading(path):
    assert workbook.write(path, "Jobs", COLUMNS, []) == 0
    assert read(path) == {"Jobs": [["Name", "Value"]]}


def test_each_row_is_a_step_and_the_last_one_packs(path):
    done = []

    def track(steps):
        for step in steps:
            done.append(path.exists())
            yield step

    workbook.write(path, "Jobs", COLUMNS, [("a", 1), ("b", 2)], track)
    assert done == [False, False, True]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_memory_does_not_grow_with_the_rows(path):
    tracemalloc.start()
    workbook.write(path, "Jobs", COLUMNS, ((f"=name {n}", n) for n in range(30_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
