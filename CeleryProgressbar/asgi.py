"""The ASGI application: pages over HTTP, jobs over WebSockets, and hub and relay beside them."""

import gc
import os

from django.core.asgi import get_asgi_application

import livejobs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "CeleryProgressbar.settings")
http = get_asgi_application()  # first: it loads the apps that the next import needs

from HomeApp.routing import websocket_urlpatterns  # noqa: E402

application = livejobs.asgi(http, websocket_urlpatterns)

# Each full collection stops all sockets for 0.1 s: the collector passes over what has been imported by now, and looks
# at the rest less often. Source: Python's gc module, `freeze` and `set_threshold`.
gc.collect()
gc.freeze()
gc.set_threshold(50_000)
