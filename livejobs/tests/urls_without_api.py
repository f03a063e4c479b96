"""A project that has the pages of jobs, and no JSON API."""

from django.urls import include, path

urlpatterns = [path("bars/", include("livejobs.urls"))]
