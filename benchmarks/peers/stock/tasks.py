"""Stock Channels, the worker's side: plain Celery with the rpc result backend."""

import os
import time

from celery import Celery, Task

#: Where the replies go, instead of to a queue of the sending thread.
REPLY_QUEUE = os.environ.get("REPLY_QUEUE", "stock.replies")

app = Celery("stock", broker=os.environ.get("CELERY_BROKER_URL"), backend="rpc://")


@app.task(bind=True, name="report")
def report(self: Task, count: int, rate: float) -> None:
    """Report `count` times, `rate` times a second, whatever the time a report takes.

    Args:
        self: the task that runs.
        count: how many reports.
        rate: reports a second.
    """
    start = time.time()
    for i in range(1, count + 1):
        due = start + i / rate
        time.sleep(max(0.0, due - time.time()))
        meta = {"current": i, "total": count, "percent": 100 * i / count, "due": due, "sent": time.time()}
        self.update_state(state="PROGRESS", meta=meta)
