import pytest

from HomeApp.primes import count_primes, is_prime

# Source: OEIS A006880, the number of primes below 10^n.
KNOWN = {1: 0, 2: 0, 3: 1, 4: 2, 10: 4, 100: 25, 1_000: 168, 10_000: 1_229, 100_000: 9_592, 1_000_000: 78_498}


@pytest.mark.parametrize(("below", "count"), KNOWN.items())
def test_counts_the_primes_below(below, count):
    assert count_primes(below) == count


def test_agrees_with_trial_division():
    odd = range(3, 20_000, 2)
    assert [n for n in odd if is_prime(n)] == [n for n in odd if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


@pytest.mark.parametrize("pseudoprime", [2_047, 1_373_653, 25_326_001])
def test_is_not_fooled_by_numbers_that_fool_fewer_bases(pseudoprime):
    assert not is_prime(pseudoprime)


def test_every_step_is_tracked():
    seen = []

    def track(numbers):
        for number in numbers:
            yield number
            seen.append(number)

    count_primes(1_000, track)
    assert seen == list(range(3, 1_000, 2))
