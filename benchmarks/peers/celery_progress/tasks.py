"""celery-progress, settings and the worker's side. MODE is "websocket" or "polling".

As its README and the example project that it names (EJH2/cp_ws-example) have it.
"""

import os
import time

import django
from celery import Celery, Task
from django.conf import settings

MODE = os.environ.get("MODE", "websocket")
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/14")

settings.configure(
    SECRET_KEY="a benchmark's",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels", "celery_progress", "celery_progress.websockets"]
    if MODE == "websocket"
    else ["celery_progress"],
    ROOT_URLCONF="asgi",
    CHANNEL_LAYERS={"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}},
)
django.setup()

app = Celery("celery_progress_peer", broker=os.environ.get("CELERY_BROKER_URL"), backend=REDIS_URL)
app.set_default()  # for all threads, as Celery does by itself where there is a DJANGO_SETTINGS_MODULE
app.autodiscover_tasks(settings.INSTALLED_APPS)

if MODE == "websocket":
    from celery_progress.websockets.backend import WebSocketProgressRecorder as Recorder
else:
    from celery_progress.backend import ProgressRecorder as Recorder


@app.task(bind=True, name="report")
def report(self: Task, count: int, rate: float) -> None:
    """Report `count` times, `rate` times a second, whatever the time a report takes.

    Args:
        self: the task that runs.
        count: how many reports.
        rate: reports a second.
    """
    recorder = Recorder(self)
    start = time.time()
    for i in range(1, count + 1):
        due = start + i / rate
        time.sleep(max(0.0, due - time.time()))
        recorder.set_progress(i, count, description=f"due={due!r} sent={time.time()!r}")
