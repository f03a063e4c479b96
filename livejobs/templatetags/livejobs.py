"""The forms and bars of a page: `{% job_form "kind" %}`, `{% job_bars %}`, `{% job_bar job %}`."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django import forms, template
from django.apps import apps
from django.conf import settings
from django.contrib.humanize.templatetags.humanize import ordinal
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import get_script_prefix
from django.utils.html import format_html

from livejobs.addresses import address
from livejobs.conf import conf
from livejobs.kinds import kinds, startable
from livejobs.models import Job, State
from livejobs.owner import owner_of_request, page_owner, remember_visitor
from livejobs.place import fill_in
from livejobs.result import answer, readable, table

register = template.Library()
register.filter("ordinal", ordinal)
register.filter("answer", answer)
register.filter("table", table)

#: Django's own copy, and what a project without the admin has instead.
JQUERY = "admin/js/vendor/jquery/jquery.min.js"
JQUERY_CDN = "https://code.jquery.com/jquery-3.7.1.min.js"
JQUERY_INTEGRITY = "sha256-/JqT3SQfawRcv/BIHPThkBvs0OEvtFFmqPF/lYI/Cxo="
#: What page.js imports, and what that imports. By itself, a browser finds an import once the script before it is there.
MODULES = [
    "livejobs/announcer.js",
    "livejobs/api.js",
    "livejobs/bars.js",
    "livejobs/config.js",
    "livejobs/job-bar.js",
    "livejobs/jquery.js",
    "livejobs/polling.js",
    "livejobs/reload.js",
    "livejobs/result.js",
    "livejobs/socket.js",
    "livejobs/state.js",
    "livejobs/tab.js",
    "livejobs/task_status.js",
    "livejobs/words.js",
]
#: Stands for a job in the address of its page, as scripts know it.
NOBODY = UUID(int=0)
#: What the bar says that waits for the first job.
IDLE = "Press {}. The job runs on in the background; close the page and come back as you like."
NO_ADDRESS = 'The form of {!r} has a file, and the project no address for it: add path("", include("livejobs.urls")).'
NO_SUCH_KIND = "{!r} is no kind of job that a page can start. Known: {}."


@register.simple_tag(takes_context=True)
def job_config(context: dict[str, Any]) -> str:
    """Return what the scripts of a page are told, once for each page. The other tags of this library call it.

    A page with scripts of its own, and without a bar, calls it in its head. It makes no session.
    """
    request: HttpRequest = context["request"]
    if hasattr(request, "livejobs_config"):
        return ""
    hidden_cookie = settings.CSRF_COOKIE_HTTPONLY or settings.CSRF_USE_SESSIONS
    has_admin = apps.is_installed("django.contrib.admin")
    told = {
        "owner": page_owner(owner_of_request(request)),
        "sockets": f"{get_script_prefix()}ws/",
        "api": _api(),
        "job_page": address(["livejobs:job"], NOBODY) or "",
        "csrf_cookie": settings.CSRF_COOKIE_NAME,
        "csrf": get_token(request) if hidden_cookie else "",
        "jquery": static(JQUERY) if has_admin else JQUERY_CDN,
        "jquery_integrity": "" if has_admin else JQUERY_INTEGRITY,
        "upload_mib": f"{conf.UPLOAD_MIB:g}",  # not as the language writes numbers
    }
    request.livejobs_config = told  # type: ignore[attr-defined]
    return render_to_string("livejobs/config.html", {**told, "modules": MODULES})


@register.inclusion_tag("livejobs/job_form.html", takes_context=True)
def job_form(
    context: dict[str, Any], kind: str, button: str = "START", button_id: str = "", form: forms.Form | None = None
) -> dict[str, Any]:
    """Show the form that starts a job of a kind.

    Args:
        context: with the request.
        kind: which one.
        button: what the button says.
        button_id: the button's id in the page.
        form: unless given, one of the kind's form.

    Raises:
        LookupError: there is no such kind, or visitors may not start it, or its file cannot be posted anywhere.
    """
    if kind not in startable():
        raise LookupError(NO_SUCH_KIND.format(kind, ", ".join(startable())))
    form = form or kinds()[kind].form(auto_id=f"{kind}_%s")
    told = {"kind": kind, "button": button, "button_id": button_id, "form": form}
    # Without scripts, and until they have run, the form posts to the action; the scripts post files there.
    posted = {"action": address(["livejobs:start"], kind), "ref": uuid4()}
    if form.is_multipart() and not posted["action"]:
        raise LookupError(NO_ADDRESS.format(kind))
    return _of_page(context) | told | posted


@register.inclusion_tag("livejobs/job_bars.html", takes_context=True)
def job_bars(context: dict[str, Any], kind: str = "", title: str = "Your bar", button: str = "START") -> dict[str, Any]:
    """Show the bars of all jobs of the page's owner, the newest on top; one that waits for the first job until then.

    Args:
        context: with the request.
        kind: the one kind whose jobs are shown; empty for all.
        title: of the bar that waits.
        button: what the button says that the bar waits for.
    """
    return _of_page(context) | {"kind": kind, "title": title, "words": IDLE.format(button)}


@register.inclusion_tag("livejobs/job_bar.html", takes_context=True)
def job_bar(context: dict[str, Any], job: Job) -> dict[str, Any]:
    """Show one job as it stands, and live from then on if it is of the page's owner.

    Args:
        context: with the request.
        job: which one.
    """
    if job.workers is None:
        fill_in([job])
    return _of_page(context) | {"job": job}


@register.filter
def page_of(job: Job | None) -> str:
    """Return the address of a job's page; empty if the project has none."""
    return (address(["livejobs:job"], job.pk) if job else None) or ""


@register.filter
def is_unknown(job: Job | None) -> bool:
    """Tell whether nobody knows how much of a running job is left, as state.js does."""
    if job is None or job.state not in (State.STARTED, State.PROGRESS):
        return False
    return job.percent is None or (job.stage is not None and job.stage.of is None)


@register.filter
def lasted(time: timedelta) -> str:
    """Return how long something has lasted: 18.4 s, or as a clock shows it from a minute on."""
    seconds = max(time.total_seconds(), 0)
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    rest = f"{minutes:02}:{int(seconds) % 60:02}"
    return f"{hours}:{rest}" if hours else rest.removeprefix("0")


@register.filter
def result_templates(job: Job) -> list[str]:
    """Return the names of the templates that may show a result, the project's own for the kind first."""
    return [f"livejobs/results/{job.kind}.html", "livejobs/job_table.html"]


@register.filter
def cell(text: str) -> str:
    """Return a text of a table, a date-time so that the page's scripts can show it in the visitor's time zone."""
    shown = readable(text)
    return text if shown == text else format_html('<time datetime="{}">{}</time>', text, shown)


def _of_page(context: dict[str, Any]) -> dict[str, Any]:
    """Give the page a session that owns jobs, and a CSRF cookie: its scripts start and cancel them."""
    request = context["request"]
    remember_visitor(request.session)
    return {"request": request, "csrf_token": get_token(request)}


def _api() -> str:
    """Return the address below which the JSON API is; empty if the project has none."""
    return (address(["api_jobs"]) or "").removesuffix("jobs/")
