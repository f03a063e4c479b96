"""The ASGI application: pages over HTTP, jobs over WebSockets, and one relay beside them."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.sessions import CookieMiddleware
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "CeleryProgressbar.settings")
http = get_asgi_application()  # first: it loads the apps that the next imports need

from HomeApp.lifespan import RelayMiddleware  # noqa: E402
from HomeApp.origin import SiteOriginValidator  # noqa: E402
from HomeApp.routing import websocket_urlpatterns  # noqa: E402

websocket = SiteOriginValidator(CookieMiddleware(URLRouter(websocket_urlpatterns)))
application = RelayMiddleware(ProtocolTypeRouter({"http": http, "websocket": websocket}))
