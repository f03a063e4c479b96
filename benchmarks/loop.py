"""What a loop pays to be watched (6): run in a worker's place, replying over RabbitMQ."""

import os
import time
import uuid
from typing import Any

from benchmarks.site import AMQP, rabbitmqctl

STEPS = 1_000_000


def per_step(seconds: float, steps: int, bare: float) -> float:
    """Return the extra microseconds of a step."""
    return 1e6 * seconds / steps - bare


def timed(items: Any) -> float:
    """Return the seconds that a loop over items takes, doing nothing."""
    began = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - began


def watched_loop() -> dict[str, Any]:
    """6: a loop of 1 000 000 steps; the best of five, as the rest is the machine's noise."""
    host = f"bench_{uuid.uuid4().hex[:8]}"
    rabbitmqctl("add_vhost", host)
    try:
        rabbitmqctl("set_permissions", "-p", host, "guest", ".*", ".*", ".*")
        os.environ |= {"DJANGO_SETTINGS_MODULE": "CeleryProgressbar.settings", "CELERY_BROKER_URL": AMQP + host}
        return compare()
    finally:
        rabbitmqctl("delete_vhost", host)


def compare() -> dict[str, Any]:
    """Time each way in turn, five times."""
    import django

    django.setup()
    import tqdm
    from celery import current_app

    from livejobs.backend import REPLY_QUEUE
    from livejobs.jobs import kinds
    from livejobs.report import begun

    with current_app.connection_for_write() as connection:
        REPLY_QUEUE(connection.default_channel).declare()
    task = kinds()["count_primes"]
    task.push_request(id=str(uuid.uuid4()), reply_to=REPLY_QUEUE.name)
    task.request.update(begun(1), stops=0)
    best: dict[str, float] = {}
    with open(os.devnull, "w") as nowhere:
        for _ in range(5):
            bare = 1e6 * timed(range(STEPS)) / STEPS
            took = timed(task.track(range(STEPS)))
            reported = time.perf_counter()
            for number in range(500):
                task.update_state(state="PROGRESS", meta={"current": number, "total": 500})
            ways = {
                "track": per_step(took, STEPS, bare),
                "tqdm": per_step(timed(tqdm.tqdm(range(STEPS), file=nowhere)), STEPS, bare),
                "update_state each step": per_step(time.perf_counter() - reported, 500, bare),
            }
            best = {way: min(value, best.get(way, value)) for way, value in ways.items()}
    before, began = task.request.seq, time.perf_counter()
    timed(task.track(range(50 * STEPS)))
    messages = (task.request.seq - before) / (time.perf_counter() - began)
    task.pop_request()
    return best | {"ratio track / tqdm": best["track"] / best["tqdm"], "messages a second": messages}
