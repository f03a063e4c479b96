"""The addresses of jobs, for the project's own URLs: `path("api/", include("livejobs.api.urls"))`."""

from django.urls import path

from livejobs.api import views

urlpatterns = [
    path("jobs/", views.job_list, name="api_jobs"),
    path("jobs/<str:task_id>/", views.job_detail, name="api_job"),
    path("jobs/<str:task_id>/cancel/", views.job_cancel, name="api_job_cancel"),
    path("jobs/<str:task_id>/retry/", views.job_retry, name="api_job_retry"),
    path("jobs/<str:task_id>/file/", views.job_file, name="api_job_file"),
]
