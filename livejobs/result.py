"""What a result says: which files the job has made, and the sentence or the table that shows the rest.

A scalar, and a `summary`, is told in a sentence. Any other result is shown as a table. The table is made here, for the
bar and for the pages that the server draws.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypedDict

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

#: Rows, columns and characters of a cell that a table shows.
ROWS, COLUMNS, CELL = 20, 12, 200
#: Files that a result may name.
MOST_FILES = 100
#: Digits of a decimal that is written without an exponent.
DIGITS = 40
#: A date-time as `isoformat` writes it. With an offset, it is a moment, the same in every time zone.
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)


class Table(TypedDict):
    """A table of texts."""

    head: list[str] | None  #: the names of the columns
    rows: list[list[str]]
    more: str  #: what is left out, in words


class ResultEncoder(DjangoJSONEncoder):
    """JSON of what a task returns, with values of other types as text that a person can read."""

    def default(self, value: Any) -> Any:
        """Return what JSON has in place of a value."""
        match value:
            case timedelta():
                return f"-{-value}" if value < timedelta() else str(value)
            case time():
                return value.isoformat()
            case Decimal():
                return f"{value:f}" if abs(value.adjusted()) < DIGITS else str(value)
            case bytes() | bytearray() | memoryview():
                return _text_of(bytes(value))
        return super().default(value)


def is_file_name(name: Any) -> bool:
    """Tell whether a name is that of a file, and not a path."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not {"/", "\0"} & set(name)
        and len(name.encode()) <= 255  # the limit of file systems
    )


def files_of(result: Any) -> list[str]:
    """Return the names of the several files that a result names in its "files"; none if that is anything else."""
    names = result.get("files") if isinstance(result, dict) else None
    return names if isinstance(names, list) and all(map(is_file_name, names)) else []


def file_of(result: Any) -> str:
    """Return the name of the one file that a result names in its "file"; empty if it names none."""
    name = result.get("file") if isinstance(result, dict) else None
    return name if isinstance(name, str) else ""


def answer(result: Any) -> str:
    """Return a result as a sentence; empty if a table shows it.

    Args:
        result: of a job that has succeeded, as its row has it.
    """
    if isinstance(result, dict) and isinstance(summary := result.get("summary"), str):
        return summary
    if isinstance(result, list | dict):
        return "" if _rest(result) or files_of(result) or file_of(result) else "The answer is empty."
    return "" if result is None else f"The answer is {readable(written(result))}."


def table(result: Any) -> Table | None:
    """Return a result as a table; None if a sentence tells it.

    The items of a list are the rows: objects under the names of their columns, lists as cells, others as one cell.
    Names are sorted, as PostgreSQL does not keep their order.

    Args:
        result: of a job that has succeeded, as its row has it.
    """
    rest = _rest(result)
    if not rest or (isinstance(rest, dict) and isinstance(rest.get("summary"), str)):
        return None
    if isinstance(rest, dict):
        names = sorted(rest, key=_natural)
        return _table(None, ([name, rest[name]] for name in names[:ROWS]), len(names), 0)
    shown = rest[:ROWS]
    if not all(isinstance(one, dict) for one in shown):
        cells = [one if isinstance(one, list) else [one] for one in shown]
        widest = max(map(len, cells))
        return _table(None, (one[:COLUMNS] for one in cells), len(rest), widest - COLUMNS)
    names = sorted({name for one in shown for name in one}, key=_natural)
    head = names[:COLUMNS]
    return _table(head, ([one.get(name) for name in head] for one in shown), len(rest), len(names) - COLUMNS)


def written(value: Any) -> str:
    """Return a value of a result as text, as the page's scripts write it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{Decimal(repr(value)):f}" if 1e-6 <= abs(value) < 1e21 else repr(value)
        return text.removesuffix(".0").replace("e-0", "e-")
    return json.dumps(value, ensure_ascii=False)


def readable(text: str) -> str:
    """Return a date-time as a person writes it, in the present time zone and with its name; any other text as it is.

    A date-time without an offset has a time zone that is not known, and stays in it.
    """
    if not DATE_TIME.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
        if timezone.is_aware(moment):
            moment = timezone.localtime(moment)
        return f"{moment.isoformat(' ')[:19]} {moment.tzname() or ''}".rstrip()
    except (ValueError, OverflowError):  # no such day, or none in this time zone
        return text


def _text_of(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return f"{len(value)} byte{'' if len(value) == 1 else 's'}"
    return text


def _table(head: list[str] | None, rows: Iterable[list[Any]], count: int, columns_left: int) -> Table:
    texts = [[_cut(written(cell)) for cell in row] for row in rows]
    more = [f"and {count - ROWS:,} more"] if count > ROWS else []
    if columns_left > 0:
        more.append(f"and {columns_left:,} more column{'s' * (columns_left != 1)}")
    return {"head": head and [_cut(name) for name in head], "rows": texts, "more": ", ".join(more)}


def _rest(result: Any) -> Any:
    """Return of a list or an object what is no file; None for all else."""
    if not isinstance(result, dict):
        return result if isinstance(result, list) else None
    files = {"file": file_of(result), "files": files_of(result)}
    return {name: value for name, value in result.items() if not files.get(name)}


def _natural(name: str) -> tuple[bool, int, str]:
    """Return the key by which names are sorted: numbers first, by their value."""
    is_number = name.isdecimal() and len(name) <= DIGITS
    return not is_number, int(name) if is_number else 0, name


def _cut(text: str) -> str:
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"
