"""The addresses of the engine's sockets, with and without the trailing slash."""

from django.urls import re_path

from livejobs.consumers import JobsConsumer, TaskStatusConsumer

websocket_urlpatterns = [
    re_path(r"^ws/jobs/?\Z", JobsConsumer.as_asgi()),
    re_path(r"^ws/task_status/(?P<task_id>[^/]+)/?\Z", TaskStatusConsumer.as_asgi()),
]
