"""All URLs of the site."""

from django.contrib import admin
from django.urls import include, path

from livejobs.api.problem import handler500

__all__ = ["handler500", "urlpatterns"]

urlpatterns = [
    path("", include("HomeApp.urls")),
    path("admin/", admin.site.urls),
]
