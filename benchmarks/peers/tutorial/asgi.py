"""The tutorial, the web side: a synchronous consumer that starts the task, and asks for its state once a second."""

import json
import time

import django
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path
from tasks import report

settings.configure(
    SECRET_KEY="a benchmark's",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    ROOT_URLCONF=__name__,
)
django.setup()
urlpatterns = []


class ProgressConsumer(WebsocketConsumer):
    """A frame starts the task; its state comes back once a second."""

    def receive(self, text_data: str) -> None:
        """Start the task and stay with it until it has ended.

        Args:
            text_data: JSON: how many reports (`count`), and how many a second (`rate`).
        """
        params = json.loads(text_data)
        result = report.delay(params["count"], params["rate"])
        while not result.ready():
            self.send(json.dumps({"state": result.state, "info": result.info}, default=str))
            time.sleep(1)
        self.send(json.dumps({"state": result.state, "info": result.info}, default=str))


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws/progress/", ProgressConsumer.as_asgi())]),
    }
)
