"""The sockets' URLs."""

from django.urls import path

from HomeApp.consumers import JobsConsumer, TaskStatusConsumer

websocket_urlpatterns = [
    path("ws/jobs/", JobsConsumer.as_asgi()),
    path("ws/task_status/<str:task_id>/", TaskStatusConsumer.as_asgi()),
]
