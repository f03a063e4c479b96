"""Draws the results that are clearer as a picture."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.load import SERIES

mpl.use("Agg")
from matplotlib import pyplot


def draw(found: dict[str, Any], folder: Path) -> None:
    """Draw what has been measured.

    Args:
        found: the summary of `benchmarks.run`.
        folder: where the pictures go.
    """
    if "2 live bars" in found:
        live_bars(found["2 live bars"], folder / "live-bars.png")
    if "3 freshness" in found:
        freshness(found["3 freshness"], folder / "freshness.png")
    if "10 flat" in found:
        flat(found["10 flat"], folder / "flat.png")


def live_bars(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the 99th percentile of the latency against the number of jobs."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, row in rows.items():
        lines.setdefault(name.rpartition(",")[0], []).append((row["jobs"], row["p99"]))
    for name, points in lines.items():
        axes.loglog(*zip(*points, strict=True), "o-", label=name)
    axes.axhline(100, color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="jobs, each reporting 10 times a second to a socket of its own", ylabel="p99, ms")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def freshness(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the age of what is shown, second by second."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, row in rows.items():
        axes.semilogy(row[SERIES], label=name)
    axes.axhline(500, color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="seconds", ylabel="age of what is shown, p99, ms")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def flat(groups: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the CPU of a report against jobs, watchers and history."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, points in groups.items():
        axes.semilogx([float(count) for count in points], list(points.values()), "o-", label=name)
    axes.set(xlabel="how many", ylabel="CPU of the web process for each report, µs", ylim=(0, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
