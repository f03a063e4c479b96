"""How a result is stored, and how a person reads it."""

import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.utils.timezone import override

from livejobs import outcome
from livejobs.models import Job, State
from livejobs.outcome import TaskFailed, as_result
from livejobs.result import CELL, COLUMNS, MOST_FILES, ROWS, answer, readable, table, written

INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("1E+999999"), "1E+999999"),
        (Decimal("NaN"), "NaN"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 9, 30), "2026-01-02T09:30:00"),  # noqa: DTZ001  # a task may return one
        (datetime(2026, 1, 2, 9, 30, tzinfo=UTC), "2026-01-02T09:30:00Z"),
        (datetime(2026, 1, 2, 9, 30, tzinfo=INDIA), "2026-01-02T09:30:00+05:30"),
        (time(9, 30), "09:30:00"),
        (time(9, 30, tzinfo=UTC), "09:30:00+00:00"),
        (timedelta(minutes=90), "1:30:00"),
        (timedelta(days=-2, hours=-1), "-2 days, 1:00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("grün".encode(), "grün"),
        (bytearray(b"text"), "text"),
        (b"\xff" * 12, "12 bytes"),
        (b"\0", "1 byte"),
    ],
    ids=repr,
)
def test_a_value_that_json_does_not_have_becomes_text_that_a_person_reads(value, text):
    assert as_result({"of": [value]}) == {"of": [text]}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (None, ""),
        (168, "The answer is 168."),
        (10**30, f"The answer is {10**30}."),
        (5.0, "The answer is 5."),
        (0.1, "The answer is 0.1."),
        (True, "The answer is true."),
        ("blue", "The answer is blue."),
        ({"summary": "All is well.", "rows": 2}, "All is well."),
        ([], "The answer is empty."),
        ({}, "The answer is empty."),
        ({"file": "rows.csv"}, ""),
        ({"files": ["a.csv"]}, ""),
        ({"rows": 2}, ""),
        ([1, 2], ""),
    ],
    ids=str,
)
def test_a_scalar_and_a_summary_are_told_in_a_sentence(result, sentence):
    assert answer(result) == sentence


def rows(result):
    """Return the rows of a result's table."""
    return table(result)["rows"]


def test_an_object_is_a_table_of_names_and_values():
    assert table({"size": 3, "name": "a.txt", "ok": True, "of": None, "more": {"deep": [1]}}) == {
        "head": None,
        "rows": [["more", '{"deep": [1]}'], ["name", "a.txt"], ["of", ""], ["ok", "true"], ["size", "3"]],
        "more": "",
    }


def test_a_list_of_objects_is_a_table_with_a_header_whatever_each_of_them_has():
    assert table([{"name": "a", "size": 1}, {"name": "b"}, {"date": "2026-01-02"}]) == {
        "head": ["date", "name", "size"],
        "rows": [["", "a", "1"], ["", "b", ""], ["2026-01-02", "", ""]],
        "more": "",
    }


def test_a_list_of_lists_keeps_the_order_of_its_columns_and_other_items_have_a_row_each():
    assert rows([["size", 3], ["name", "a"]]) == [["size", "3"], ["name", "a"]]
    assert rows([1, "two", {"of": 3}]) == [["1"], ["two"], ['{"of": 3}']]


def test_years_come_in_the_order_of_their_numbers():
    assert rows(as_result({2025: 1, 10: 2, 9: 3, "all": 6})) == [["9", "3"], ["10", "2"], ["2025", "1"], ["all", "6"]]


def test_what_a_table_leaves_out_it_says():
    assert table([{"n": n} for n in range(ROWS + 980)])["more"] == "and 980 more"
    assert table({str(n): n for n in range(ROWS + 1500)})["more"] == "and 1,500 more"
    wide = table([{f"column {n}": n for n in range(COLUMNS + 1)}])
    assert (len(wide["head"]), len(wide["rows"][0]), wide["more"]) == (COLUMNS, COLUMNS, "and 1 more column")
    assert table([list(range(COLUMNS + 2))])["more"] == "and 2 more columns"
    [[cut]] = rows(["x" * 10_000])
    assert (len(cut), cut[-1]) == (CELL, "…")


@pytest.mark.parametrize(
    "result", [None, 1, "text", {"summary": "All.", "rows": [1]}, [], {}, {"file": "a.csv"}], ids=str
)
def test_where_a_sentence_is_enough_there_is_no_table(result):
    assert table(result) is None


def test_the_names_of_files_are_no_rows_and_what_only_looks_like_them_is():
    assert rows({"files": ["a.csv", "b.csv"], "file": "c.csv", "rows": 2}) == [["rows", "2"]]
    assert rows({"files": 12}) == [["files", "12"]]
    assert rows({"files": ["in/a.csv"]}) == [["files", '["in/a.csv"]']]
    assert rows({"file": ["a.csv"]}) == [["file", '["a.csv"]']]


@pytest.mark.parametrize(
    ("value", "text"),
    [(5.0, "5"), (-0.25, "-0.25"), (1e16, "10000000000000000"), (1e22, "1e+22"), (1e-5, "0.00001"), (1.5e-7, "1.5e-7")],
)
def test_numbers_are_written_as_the_scripts_write_them(value, text):
    assert written(value) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-07-02T09:00:00Z", "2026-07-02 11:00:00 CEST"),
        ("2026-07-02T09:00:00.123+05:30", "2026-07-02 05:30:00 CEST"),
        ("2026-07-02T09:00:00.123456", "2026-07-02 09:00:00"),
        ("2026-13-02T09:00:00Z", "2026-13-02T09:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("at 2026-07-02T09:00:00Z", "at 2026-07-02T09:00:00Z"),
        ("2026-07-02", "2026-07-02"),
    ],
)
def test_a_moment_is_told_in_a_time_zone_that_is_named(text, read):
    with override(ZoneInfo("Europe/Berlin")):
        assert readable(text) == read


@pytest.mark.parametrize("summary", [{"rows": 2}, ["rows"], 2, False])
def test_a_summary_that_is_no_text_is_refused_with_the_remedy(run_job, new_kind, summary, transactional_db):
    def summed(self):
        return {"summary": summary}

    new_kind(summed)
    job = run_job("summed")
    assert (job.state, job.error) == (State.FAILURE, outcome.SUMMARY_IS_NO_TEXT)
    assert "Let the task return text there" in job.error


def test_a_summary_may_be_missing():
    assert as_result({"summary": None, "rows": 2}) == {"summary": None, "rows": 2}


def test_too_many_files_are_refused_with_the_remedy():
    names = [f"{number}.csv" for number in range(MOST_FILES + 1)]
    assert as_result({"files": names[1:]})
    with pytest.raises(TaskFailed) as refused:
        as_result({"files": names})
    assert "Let the task put them into an archive" in refused.value.sentence


def test_the_snapshot_has_the_table():
    assert Job(result={"rows": 2**53 + 1}).snapshot()["table"]["rows"] == [["rows", str(2**53 + 1)]]
