"""How long a job may still take, as a range, from the pace of its attempt.

The progress p after the time t is taken for a power of it, p = c·t^b: b is 1 for a steady job, more for one that gains
speed, less for one that loses speed. A line through the newest report is fitted to the logarithms by least squares. The
fit is believed as far as it explains the reports better than a steady pace would. The range holds the truth in about
80 % of the moments, on the recorded shapes of benchmarks/time_left.py, which also holds the constants.
"""

import math

#: Points that are kept, at least, once there are so many; then every second one is dropped.
POINTS = 24
#: Seconds between two fits: the range runs down in between.
EVERY = 1.0
#: The part of the present progress from which on points are looked at: the first moments are not typical.
FROM = 0.02
#: The part of the way that a job must have come, and the number of its points, for a range.
SOONEST, FEWEST = 0.02, 3
#: How much better than a steady pace a fit must be to be believed, as the square of (b - 1) by the noise.
DOUBT = 4.0
#: The slowest and the quickest change of pace that is believed.
LEAST, MOST = 0.4, 2.5
#: The width of the range, as a logarithm: for every job, by the noise of its reports, and by the change of its pace.
BASE, NOISE, TREND = 0.06, 7.0, 0.2
#: Nobody waits for the end of a longer range; the numbers stay finite.
LONGEST = 10 * 365 * 86_400.0


class Pace:
    """The reports of one attempt, as far as they tell its pace."""

    def __init__(self) -> None:
        self.began, self.came_from = 0.0, -1.0
        self.points: list[
            tuple[float, float]
        ] = []  # logarithms of the time and of the progress, since the first report
        self.percent = 0.0
        self.fitted_at = -math.inf
        self.fitted: tuple[float, float] | None = None

    def note(self, percent: float, now: float) -> tuple[float, float] | None:
        """Note a report. Returns the seconds until the end, low and high; None if they are not known.

        Args:
            percent: of the whole job.
            now: seconds, by a clock that never goes back.
        """
        if self.came_from < 0:
            self.began, self.came_from = now, percent
        time, progress = now - self.began, percent - self.came_from
        if time > 0 and progress > 0 and percent > self.percent:
            self.points.append((math.log(time), math.log(progress)))
            if len(self.points) > 2 * POINTS:
                self.points = self.points[-1::-2][::-1]
        self.percent = percent
        if now - self.fitted_at >= EVERY:
            self.fitted_at, self.fitted = now, self._fit(time, progress)
        if self.fitted is None:
            return None
        passed = now - self.fitted_at
        return max(self.fitted[0] - passed, 0), max(self.fitted[1] - passed, 0)

    def _fit(self, time: float, progress: float) -> tuple[float, float] | None:
        goal = 100 - self.came_from
        if len(self.points) < FEWEST or progress < SOONEST * goal or time <= 0:
            return None
        here = math.log(time), math.log(progress)
        earliest = here[1] + math.log(FROM)
        near = [(x - here[0], y - here[1]) for x, y in self.points if y >= earliest]
        squares = sum(x * x for x, _ in near)
        trend = sum(x * y for x, y in near) / squares if squares > 1e-9 else 1.0
        noise = math.sqrt(sum((y - trend * x) ** 2 for x, y in near) / len(near))
        change = min(max(trend, LEAST), MOST) - 1
        better = (change / max(noise, 0.003)) ** 2
        trend = 1 + change * better / (better + DOUBT)
        left = min(max(time * math.exp(math.log(goal / progress) / trend) - time, 0.0), LONGEST)
        width = BASE + NOISE * noise + TREND * abs(math.log(trend))
        return left * math.exp(-width), min(left * math.exp(width), LONGEST)
