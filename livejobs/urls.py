"""The pages of jobs: `path("", include("livejobs.urls"))` in the URLs of the project. The sockets are in routing.py."""

from django.urls import path

from livejobs import views

app_name = "livejobs"
urlpatterns = [
    path("start/<str:kind>/", views.start, name="start"),
    path("jobs/<uuid:task_id>/", views.job, name="job"),
    path("jobs/<uuid:task_id>/cancel/", views.cancel, name="cancel"),
    path("jobs/<uuid:task_id>/retry/", views.retry, name="retry"),
    path("jobs/<uuid:task_id>/file/", views.file, name="file"),
]
