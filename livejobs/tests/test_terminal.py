"""The progress bar in a terminal."""

import io
from types import SimpleNamespace

import pytest

from livejobs import terminal
from livejobs.terminal import Bar, line, printable
from testkit.screen import Screen


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, as a list of one: it stands still unless told otherwise."""
    now = [1000.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(monkeypatch, clock) -> Screen:
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=screen))  # pytest has its own sys.stderr
    return screen


def test_a_bar_says_how_far_it_is_how_long_it_took_and_how_long_it_will_take():
    assert line(25, 100, "Primes", None, 5, 60) == "Primes:  25%|████▌             | 25/100 [00:05<00:15, 5.0/s]"
    assert line(0, 100, "", None, 0, 60) == "  0%|                                        | 0/100 [00:00]"
    assert line(100, 100, "", None, 4000, 60).endswith("| 100/100 [1:06:40<00:00, 0.0/s]")


def test_without_a_total_it_says_how_many_are_done():
    assert line(42, None, "Primes", None, 2, 60) == "Primes:  42 [00:02, 21.0/s]"
    assert line(1.5, None, "", None, 0, 60) == "1.5 [00:00]"


def test_a_percentage_of_the_whole_job_is_not_that_of_its_steps():
    assert line(1, 2, "Second stage", 75, 3, 80).startswith("Second stage:  75%|")


@pytest.mark.parametrize("columns", [0, 5, 20, 40, 60, 200])
@pytest.mark.parametrize("total", [None, 0, 7, 10**15])
def test_a_bar_fits_into_its_line(columns, total):
    for done in (0, 3, 10**16):
        assert len(line(done, total, "A description " * 9, None, 3, columns)) <= columns


def test_text_cannot_control_the_terminal():
    assert printable("a\x1b[31mb\r\nc\0\u202e") == "a[31mb c"


def test_a_terminal_without_blocks_gets_plain_characters(screen, monkeypatch):
    bar = Bar(Screen("ascii"))
    bar.show(1, 2)
    bar.close()
    assert "####" in bar.stream.getvalue()


def test_a_loop_is_drawn_at_most_so_often_and_at_its_end(screen, clock):
    for _ in terminal.track(range(1000), description="Steps"):
        clock[0] += 1 / 64
    assert 50 < len(screen.drawn) <= 1000 / 64 * terminal.REDRAWS_PER_SECOND + 2
    assert screen.drawn[-1].startswith("Steps: 100%|")
    assert "1000/1000 [00:15<00:00, 64.0/s]" in screen.drawn[-1]
    assert screen.getvalue().endswith("\n")


def test_a_loop_that_is_left_leaves_a_whole_line(screen, clock):
    for number in terminal.track(range(10)):
        clock[0] += 1
        if number == 4:
            break
    assert "4/10" in screen.drawn[-1]
    assert screen.getvalue().endswith("\n")


def test_a_loop_in_a_loop_takes_its_line_and_gives_it_back(screen, clock):
    for _ in terminal.track("ab", description="Outer"):
        for _ in terminal.track("cd", description="Inner"):
            clock[0] += 1
    assert [text.partition(":")[0] for text in screen.drawn if text][:2] == ["Outer", "Inner"]
    assert screen.drawn[-1].startswith("Outer: 100%")
    assert screen.getvalue().count("\n") == 1


def test_a_shorter_line_leaves_nothing_of_a_longer_one(screen, clock):
    bar = Bar()
    bar.show(1, None, "A long description")
    clock[0] += 1
    bar.show(1, None, "Short")
    bar.close()
    assert len(screen.getvalue().split("\r")[2].rstrip("\n")) == len("A long description:  1 [00:00]")


def test_where_there_is_no_terminal_nothing_is_written(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=stream))
    assert list(terminal.track(iter("abc"), total=3)) == ["a", "b", "c"]
    assert stream.getvalue() == ""


def test_a_task_that_is_called_as_a_function_draws_its_loops(screen, new_kind):
    def doubles(task, numbers):
        return [2 * number for number in task.track(numbers, description="Doubling")]

    assert new_kind(doubles).run([1, 2]) == [2, 4]
    assert screen.drawn[-1].startswith("Doubling: 100%|")
