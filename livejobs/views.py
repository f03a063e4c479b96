"""The page of each job, and what forms post without scripts, or before the scripts have run.

The owner is that of the request's session. A job of another owner is not found, as one that does not exist.
"""

from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from livejobs import jobs
from livejobs.download import file_response
from livejobs.kinds import kinds, startable
from livejobs.models import Job, State
from livejobs.owner import owner_of_request
from livejobs.params import form_of, params_of_post
from livejobs.refused import Refused
from livejobs.timeline import files_kept_until, shown_params, timeline

#: The field of a form that has the ref of the start, so that a form that is posted twice starts one job.
REF = "livejobs_ref"
#: Children that have failed and are listed on the page of their parent.
LISTED = 100


@require_POST
@never_cache
def start(request: HttpRequest, kind: str) -> HttpResponse:
    """Start a job with what a form has posted, and show the job; if it is refused, show the form and the reason.

    A script that asks for JSON gets what a socket would tell it: it posts what no frame can carry.
    """
    if kind not in startable():
        raise Http404
    blank, ref = kinds()[kind].form, request.POST.get(REF)
    by_script = request.get_preferred_type(["text/html", "application/json"]) == "application/json"
    params = params_of_post(blank, request.POST, request.FILES)
    try:
        job = jobs.start(request, kind, params, ref)
    except Refused as refused:
        status = 429 if refused.code == "too_many_jobs" else 400
        if by_script:
            return JsonResponse(refused.as_frame(ref), status=status)
        form = form_of(owner_of_request(request) or "", blank, params)
        form.is_valid()  # its errors are shown at the fields
        told = {"kind": kind, "form": form, "refused": None if form.errors else refused}
        return render(request, "livejobs/start_page.html", told, status=status)
    return JsonResponse(job.snapshot()) if by_script else redirect("livejobs:job", job.pk)


@require_safe
@never_cache
def job(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Show one job: live with scripts, and loaded again until the end without them."""
    return _page(request, _job_of(request, task_id))


@require_POST
@never_cache
def cancel(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Cancel a job, and show it."""
    _job_of(request, task_id)
    try:
        jobs.cancel(request, task_id)
    except Refused as refused:
        return _page(request, _job_of(request, task_id), refused)
    return redirect("livejobs:job", task_id)


@require_POST
@never_cache
def retry(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Repeat a job that has failed or was cancelled, and show the new job."""
    _job_of(request, task_id)
    try:
        new = jobs.retry(request, task_id, request.POST.get(REF))
    except Refused as refused:
        return _page(request, _job_of(request, task_id), refused)
    return redirect("livejobs:job", new.pk)


@require_safe
@never_cache
def file(request: HttpRequest, task_id: UUID) -> FileResponse:
    """Send a file that a job has made: `?name=` tells which one of several."""
    try:
        return file_response(_job_of(request, task_id), request.GET.get("name", ""))
    except Refused as refused:
        raise Http404(refused.detail) from None


def _job_of(request: HttpRequest, task_id: UUID) -> Job:
    try:
        return jobs.job_of(owner_of_request(request), task_id)
    except Refused as refused:
        raise Http404(refused.detail) from None


def _page(request: HttpRequest, shown: Job, refused: Refused | None = None) -> HttpResponse:
    failed = Job.objects.filter(parent=shown, state__in=[State.FAILURE, State.REVOKED]) if shown.children else None
    told: dict[str, Any] = {
        "job": shown,
        "refused": refused,
        "failed": failed and failed.order_by("position")[:LISTED],
        "repeats": Job.objects.filter(retry_of=shown).order_by("created_at")[:LISTED],
        "timeline": timeline(shown),
        "params": shown_params(shown),
        "kept_until": files_kept_until(shown),
    }
    return render(request, "livejobs/job_page.html", told, status=409 if refused else 200)
