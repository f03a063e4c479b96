"""The address of `get_progress`, under the name that celery-progress' pages have for it."""

from django.urls import path

from livejobs.contrib.celery_progress import get_progress

app_name = "celery_progress"
urlpatterns = [path("<str:task_id>/", get_progress, name="task_status")]
