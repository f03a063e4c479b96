"""Writing an Excel workbook of any number of rows in constant memory. Pure, knowing neither Django nor Celery."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xlsxwriter import Workbook
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

#: Rows of a sheet, its heading included. Source: Microsoft, "Excel specifications and limits".
SHEET_ROWS = 1_048_576
#: Text that begins so is taken for a formula as soon as its cell is edited, or saves the sheet as CSV.
#: Source: OWASP, "CSV Injection".
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Step = Callable[[Iterable[None]], Iterable[None]]


def write(
    path: Path, title: str, columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[Any]], track: Step = iter
) -> int:
    """Write rows into a workbook; where a sheet is full, they go on in the next.

    Memory stays the same however many rows there are: each is written to disk at once. Files on the way lie beside
    the workbook, and take about ten times its size.

    Args:
        path: where the workbook goes; only whole once this returns.
        title: the sheets' name, at most 20 characters.
        columns: heading and width (in characters) of each column.
        rows: of text, numbers, booleans, aware datetimes (written as UTC) and None. Text is never a formula.
        track: wraps the steps, to watch how far the writing has come: one for each row, and the last one packs.

    Returns:
        How many rows there were.
    """
    options = {"constant_memory": True, "tmpdir": str(path.parent), "use_zip64": True}
    book = Workbook(path, options)
    return sum(1 for _ in track(_steps(book, title, columns, rows))) - 1


def _steps(
    book: Workbook, title: str, columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[Any]]
) -> Iterator[None]:
    formats = {
        "moment": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        "quoted": book.add_format({"quote_prefix": True}),
        "heading": book.add_format({"bold": True}),
    }
    sheet, number = _sheet(book, title, columns, formats["heading"]), 0
    for row in rows:
        number += 1
        if number == SHEET_ROWS:
            sheet, number = _sheet(book, f"{title} {len(book.worksheets()) + 1}", columns, formats["heading"]), 1
        for column, value in enumerate(row):
            _write_cell(sheet, number, column, value, formats)
        yield
    book.close()
    yield


def _sheet(book: Workbook, name: str, columns: Sequence[tuple[str, int]], heading: Format) -> Worksheet:
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    for column, (label, width) in enumerate(columns):
        sheet.set_column(column, column, width)
        sheet.write_string(0, column, label, heading)
    return sheet


def _write_cell(sheet: Worksheet, row: int, column: int, value: Any, formats: dict[str, Format]) -> None:
    if value is None or value == "":
        return
    if isinstance(value, str):
        _write_text(sheet, row, column, value, formats["quoted"])
    elif isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, datetime):
        sheet.write_datetime(row, column, value.astimezone(UTC).replace(tzinfo=None), formats["moment"])
    else:
        sheet.write_number(row, column, value)


def _write_text(sheet: Worksheet, row: int, column: int, text: str, quoted: Format) -> None:
    """Write text as it is; what is longer than a cell may be (32 767 characters) is cut."""
    text = text.encode(errors="replace").decode()
    if text.startswith("<r>") and text.endswith("</r>"):
        # In constant memory, XlsxWriter 3.3 takes such text for XML of its own and writes it unescaped.
        sheet.write_rich_string(row, column, text[0], quoted, text[1:])
    else:
        sheet.write_string(row, column, text, quoted if text.startswith(FORMULA_STARTS) else None)
