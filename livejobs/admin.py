"""Jobs and workers as the admin sees them: to be read, cancelled and repeated, never to be edited."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from livejobs import jobs
from livejobs.models import Job, Worker
from livejobs.refused import Refused

UNENDED = "{} has not ended. Cancel it first."
#: Characters of an anonymous visitor's owner that the list shows: enough to tell visitors apart.
OWNER_SHOWN = 16


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # it takes none at run time
    """Rows that the engine alone adds and changes."""

    show_full_result_count = False  # counting all rows takes long once there are many

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: the engine adds these rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: the engine alone changes these rows."""
        return False


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """All jobs of all owners, with the tracebacks that no visitor is shown."""

    list_display = ["title", "kind", "state", "how_far", "attempt", "whose", "created_at", "duration"]
    list_filter = ["state", "kind", "by_site", "created_at"]
    search_fields = ["=id", "=owner", "title"]
    search_help_text = "A part of the title, or a whole job id or owner (user-7)"
    ordering = ["-created_at"]
    date_hierarchy = "created_at"
    actions = ["cancel_selected", "retry_selected"]
    fieldsets = [
        (None, {"fields": ["title", "kind", "state", "how_far", "description", "error", "whose", "started_with"]}),
        ("Times", {"fields": ["created_at", "started_at", "reported_at", "cancelled_at", "finished_at", "duration"]}),
        (
            "Attempts",
            {"fields": ["attempt", "attempt_started_at", "reason", "losses", "retry_at", "worker"]},
        ),
        ("Outcome", {"fields": ["outcome", "file", "trace"]}),
        ("Relatives", {"fields": ["parent_job", "repeats"]}),
    ]

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Search. A term that is no UUID names no job id, and is searched in the other fields."""
        try:
            return super().get_search_results(request, queryset, search_term)
        except ValidationError:
            return queryset.filter(title__icontains=search_term) | queryset.filter(owner=search_term), False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Allow it for jobs that have ended: a running job is cancelled first."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.final)

    def has_control_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel and repeat the jobs of others: those who have the permission to change jobs."""
        return request.user.has_perm("livejobs.change_job")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Protect the selected jobs that have not ended: the page of the action lists them and deletes nothing."""
        found, counts, lacking, protected = super().get_deleted_objects(objs, request)
        unended = [UNENDED.format(job) for job in objs if not job.final]
        if unended and self.has_delete_permission(request):
            lacking = lacking - {self.opts.verbose_name}  # which would be said instead
        return found, counts, lacking, [*protected, *unended]

    @admin.action(description="Cancel the selected jobs", permissions=["control"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Cancel jobs; their owners' pages are told."""
        self._do_to_each(request, queryset, lambda job: jobs.cancel(job.owner, job.pk), "is cancelled", "are cancelled")

    @admin.action(description="Repeat the selected jobs", permissions=["control"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Repeat jobs that have failed or were cancelled, as jobs of their owners."""
        self._do_to_each(request, queryset, lambda job: jobs.retry(job.owner, job.pk), "is repeated", "are repeated")

    def _do_to_each(
        self, request: HttpRequest, queryset: QuerySet[Job], do: Callable[[Job], Job], one: str, several: str
    ) -> None:
        """Do something to each job. What is refused for one is said, and done to the others all the same."""
        done = 0
        for job in queryset:
            try:
                do(job)
                done += 1
            except Refused as refusal:
                self.message_user(request, f"{job.title}: {refusal.detail}", messages.WARNING)
        if done:
            self.message_user(request, ngettext(f"%d job {one}.", f"%d jobs {several}.", done) % done, messages.SUCCESS)

    @admin.display(description="percent", ordering="reached")
    def how_far(self, job: Job) -> str | None:
        """Return how far the job has come; None while that is unknown."""
        return None if job.percent is None else f"{job.percent:.0f} %"

    @admin.display(description="owner", ordering="owner")
    def whose(self, job: Job) -> str | SafeString:
        """Return the owner. A user becomes a link to the page of the user in the admin, if there is one."""
        prefix, _, key = job.owner.partition("-")
        model = get_user_model()
        if prefix != "user":
            return f"{job.owner[:OWNER_SHOWN]}…"
        try:
            address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])
        except NoReverseMatch:
            return job.owner
        return format_html('<a href="{}">{}</a>', address, job.owner)

    @admin.display(description="duration")
    def duration(self, job: Job) -> str | None:
        """Return how long the job took, or has run until now, as hours, minutes and seconds."""
        if not job.started_at:
            return None
        took = (job.finished_at or timezone.now()) - job.started_at
        return str(timedelta(seconds=round(took.total_seconds())))

    @admin.display(description="parameters")
    def started_with(self, job: Job) -> SafeString | None:
        """Return what the job was started with."""
        return _as_text(json.dumps(job.params, indent=2, ensure_ascii=False))

    @admin.display(description="result")
    def outcome(self, job: Job) -> SafeString | None:
        """Return the result as JSON."""
        return _as_text("" if job.result is None else json.dumps(job.result, indent=2, ensure_ascii=False))

    @admin.display(description="traceback")
    def trace(self, job: Job) -> SafeString | None:
        """Return the traceback as it was printed."""
        return _as_text(job.traceback)

    @admin.display(description="worker")
    def worker(self, job: Job) -> SafeString | None:
        """Return the worker that runs the current attempt, as a link."""
        worker = Worker.objects.filter(pk=job.lease_id).first() if job.lease_id and not job.final else None
        return _link("worker", worker.pk, worker) if worker else None

    @admin.display(description="parent")
    def parent_job(self, job: Job) -> SafeString | None:
        """Return the job that this job is a part of, as a link."""
        return _link("job", job.parent_id, job.parent) if job.parent_id else None

    @admin.display(description="repeats")
    def repeats(self, job: Job) -> SafeString | None:
        """Return the job that this job repeats, as a link."""
        return _link("job", job.retry_of_id, job.retry_of) if job.retry_of_id else None


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """The workers that the database knows, and what they run."""

    list_display = ["host", "state", "pool", "slots", "running", "started_at", "left_at"]
    list_filter = ["state"]
    search_fields = ["host"]
    ordering = ["state", "host"]
    fields = ["host", "state", "pool", "slots", "queues", "running_jobs", "started_at", "left_at"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: the jobs of a worker without a row count as lost."""
        return False

    @admin.display(description="running")
    def running(self, worker: Worker) -> int:
        """Return how many jobs the worker runs."""
        return len(worker.jobs)

    @admin.display(description="runs")
    def running_jobs(self, worker: Worker) -> SafeString | None:
        """Return the jobs that the worker runs, as links."""
        found = Job.objects.filter(pk__in=worker.jobs).order_by("started_at")
        return format_html_join(SafeString("<br>"), "{}", ((_link("job", job.pk, job),) for job in found)) or None


def _as_text(text: str) -> SafeString | None:
    return format_html("<pre>{}</pre>", text) if text else None


def _link(model: str, pk: Any, shown: Any) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:livejobs_{model}_change", args=[pk]), shown)
