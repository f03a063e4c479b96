"""celery-progress, the web side: its own URLs and its own consumer, nothing else."""

import tasks  # noqa: F401  # the settings, before all else
from celery_progress.websockets import routing
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import include, path

urlpatterns = [path("celery-progress/", include("celery_progress.urls"))]

application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(routing.urlpatterns)})
