"""The jobs as the admin sees them: to be read, never to be edited."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from HomeApp.models import Job, User

admin.site.register(User, UserAdmin)


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):
    """All jobs of all owners, with the tracebacks that no visitor is shown."""

    list_display = ["title", "owner", "state", "percent", "attempt", "created_at", "finished_at"]
    list_filter = ["state", "kind"]
    search_fields = ["id", "owner"]
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a job is started, not added."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Nobody: only the relay moves a job."""
        return False
