"""The jobs as the admin sees them: to be read, never to be edited."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from livejobs.models import Job

UNENDED = "{} has not ended. Cancel it first."


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # it takes none at run time
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

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Allow it for jobs that have ended: a running job is cancelled first."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.final)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Protect the selected jobs that have not ended: the page of the action lists them and deletes nothing."""
        found, counts, lacking, protected = super().get_deleted_objects(objs, request)
        unended = [UNENDED.format(job) for job in objs if not job.final]
        if unended and self.has_delete_permission(request):
            lacking = lacking - {self.opts.verbose_name}  # which would be said instead
        return found, counts, lacking, [*protected, *unended]
