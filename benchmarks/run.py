"""Runs all measures, or those that are named: `python -m benchmarks.run [NAME ...]`. Writes into `results/`."""

import gzip
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import fanout, held, latency, load, loop, plot
from benchmarks.site import CLIENT_CORE, pin

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("celery", "kombu", "amqp", "channels", "channels_redis", "daphne", "uvicorn", "celery-progress", "tqdm")
#: Raw samples kept of each row, at most; where there are more, a random choice of them.
RAW = 5_000

MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "1 report to frame": latency.report_to_frame,
    "2 live bars": load.live_bars,
    "3 freshness": load.freshness,
    "4 rising rate": fanout.rising_rate,
    "5 crowd": fanout.crowd,
    "6 watched loop": loop.watched_loop,
    "7 idle": held.idle,
    "8 storm": held.storm,
    "9 click to frame": latency.click_to_frame,
    "10 flat": load.flat,
}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    broker = subprocess.run(["rabbitmqctl", "version"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "rabbitmq": broker,
        **{package: version(package) for package in PACKAGES},
    }


def without_raw(result: Any) -> Any:
    """Return a result without its samples, rounded for people."""
    if isinstance(result, dict):
        return {str(key): without_raw(value) for key, value in result.items() if key != "raw"}
    return round(result, 3) if isinstance(result, float) else result


def raw_of(result: dict[str, Any]) -> dict[str, list[float]]:
    """Return the samples of a result, in milliseconds."""
    rows = {name: row["raw"] for name, row in result.items() if isinstance(row, dict) and "raw" in row}
    return {
        name: [round(1000 * value, 3) for value in random.sample(row, min(RAW, len(row)))] for name, row in rows.items()
    }


def table(name: str, result: dict[str, Any]) -> str:
    """Return a result as a Markdown table."""
    rows = {key: row if isinstance(row, dict) else {"": row} for key, row in result.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row if column != load.SERIES))
    lines = [f"### {name}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {key} | {' | '.join(str(row.get(column, '')) for column in columns)} |" for key, row in rows.items()]
    return "\n".join(lines) + "\n"


def main(names: list[str]) -> None:
    """Measure, and write after each measure what there is so far."""
    RESULTS.mkdir(exist_ok=True)
    summary = RESULTS / "summary.json"
    found = json.loads(summary.read_text()) if names and summary.exists() else {}
    found["machine"] = machine()
    pin(os.getpid(), CLIENT_CORE)  # and with it all that it starts and does not pin elsewhere
    for name, measure in MEASURES.items():
        if names and name.split()[0] not in names:
            continue
        began = time.time()
        result = measure()
        print(f"{name}: {time.time() - began:.0f} s", flush=True)
        found[name] = without_raw(result)
        if raw := raw_of(result):
            with gzip.open(RESULTS / f"{name.replace(' ', '-')}.json.gz", "wt") as file:
                json.dump(raw, file)
        summary.write_text(json.dumps(found, indent=1))
        tables = [table(key, found[key]) for key in MEASURES if key in found]
        versions = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        (RESULTS / "tables.md").write_text("\n".join([f"Measured: {versions}.\n", *tables]))
    plot.draw(found, RESULTS)


if __name__ == "__main__":
    main(sys.argv[1:])
