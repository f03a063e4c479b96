"""The project's URLs."""

from django.contrib import admin
from django.urls import include, path
from warehouse import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("celery-progress/", include("celery_progress.urls")),
    path("import/", views.start_import),
    path("stock/", views.stock),
]
