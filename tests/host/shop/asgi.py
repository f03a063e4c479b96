"""The project's ASGI application, with a socket of its own."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django = get_asgi_application()

from warehouse.consumers import Echo  # noqa: E402

sockets = URLRouter([re_path("ws/echo/$", Echo.as_asgi())])
application = ProtocolTypeRouter({"http": django, "websocket": sockets})
