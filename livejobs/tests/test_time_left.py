"""The time left, as a range."""

from statistics import mean, median

import pytest

from benchmarks.time_left import replay
from livejobs.time_left import LONGEST, Pace


def after(reports):
    """Return the range after reports of (seconds, percent)."""
    pace, left = Pace(), None
    for seconds, percent in reports:
        left = pace.note(percent, seconds)
    return left


def test_the_range_holds_the_truth_in_about_four_of_five_moments_and_beats_tqdm_twice():
    held, ours, tqdms = replay(300, seed=2)
    everything = [[one for found in by_kind.values() for one in found] for by_kind in (held, ours, tqdms)]
    assert 0.75 <= mean(everything[0]) <= 0.85
    assert median(everything[1]) <= median(everything[2]) / 2


def test_a_steady_job_is_told_closely():
    low, high = after((second, 2.0 * second) for second in range(26))
    assert low <= 25 <= high
    assert high - low < 5


@pytest.mark.parametrize(
    "reports",
    [[], [(0, 0)], [(0, 0), (1, 10)], [(0, 50), (10, 50), (20, 50)], [(0, 0), (5, 0.1), (6, 0.2), (7, 0.3), (8, 0.4)]],
    ids=["no report", "one", "two", "no progress", "hardly any"],
)
def test_nothing_is_told_while_it_cannot_be_known(reports):
    assert after(reports) is None


def test_an_attempt_that_goes_on_from_the_middle_is_told_by_its_own_pace():
    low, high = after((second, 50 + second) for second in range(26))
    assert low <= 25 <= high


def test_a_job_that_stalls_is_told_longer():
    reports = [(second, second) for second in range(51)]
    assert after([*reports, (150, 51)])[1] > 2 * after(reports)[1]


def test_between_two_fits_the_range_runs_down():
    pace = Pace()
    for second in range(21):
        first = pace.note(second, second)
    assert pace.note(20, 20.5) == pytest.approx((first[0] - 0.5, first[1] - 0.5))


def test_many_reports_need_no_more_room():
    pace = Pace()
    for number in range(100_000):
        pace.note(number / 1000, number / 100)
    assert len(pace.points) <= 48


def test_the_numbers_stay_finite():
    assert after([(0, 0), (1, 3), (2, 3.1), (3e9, 3.2)])[1] <= LONGEST
    assert after([(0, 0), (1, 99), (2, 99.5), (3, 100)]) == pytest.approx((0, 0), abs=1e-6)
