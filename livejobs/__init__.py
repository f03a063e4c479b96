"""The engine: a live and truthful progress bar for any Celery task of a Django project.

A report's way, file by file:

    task.py        a worker runs an attempt of a job's task, and sees to it that it ends once
    track.py       the task's loops and stages report
    report.py      reports are numbered, and sent at a limited rate; `update_state` of Celery sends one too
    stages.py      what a report means for the whole: stages, and loops within loops
    backend.py     the queue that the report goes to, through the result backend of all jobs
    under/drain.py takes what the broker has
    relay.py       a thread in each web process: replies -> rows -> hub; one at a time works (relay_lease.py)
    reply.py       what a reply says, cleaned
    apply_reply.py how a reply moves the job; time_left.py and earlier_runs.py say how long it may still take
    parents.py     jobs with children (children.py) are counted
    job_cache.py   the jobs that the relay keeps in memory, and how their changes reach the rows
    models/job.py  the row, and the only ways in which it may move (queries.py: of many rows; state.py: the states)
    snapshot.py    a job as it is told (models/as_dict.py: its fields)
    hub.py         snapshots -> the sockets of this web process
    layer.py       and the hubs of the others, in numbered messages (message.py)
    recovery.py    what was missed nevertheless is read from the rows
    place.py       so is the place of each waiting job in its queue
    watcher.py     one open socket: whose it is, and what it is shown
    under/connection.py  the server's side of it: takes ready frames; a slow reader is waited for, and cut
    consumers.py   the sockets: which owner may watch which jobs
    static/livejobs/socket.js, bars.js, job-bar.js, words.js    the browser: a snapshot becomes a bar

And the way to it:

    the project's page -> socket.js -> consumers.py -> jobs.py (row, task; new_job.py checks it) -> broker -> tasks.py

A job is run by the worker that holds its lease: lease.py (the worker renews its leases), models/worker.py (the row of a
worker), sweep.py (judges which worker is lost, and sends its jobs again). Any process announces a start, a cancel or a
deletion through jobs.py; outside a web process by a notice to the relay (notice.py).

Beside the path: lifespan.py (starts hub and relay in a web process, and in management/commands/run_relay.py),
outcome.py (what a task may return and raise), outage.py (a worker waits for the database), result.py (what a result
says), checkpoint.py (what an attempt leaves for the next one), stop.py (how a running job is told to stop), leave.py
(the orderly end of a worker's child),
worker_request.py (what a worker's main process does about jobs), signals.py (what other apps may hear), owner.py (the
owner of a request), sessions.py (the sessions of every engine, read only), claims.py (the owner of a session or token),
authority.py (whether open sockets are still their owner's), origin.py (which pages may open sockets), threads.py (calls
that wait, off the event loop), files.py (what jobs make), kinds.py (which kinds there are), params.py (what a job is
started with), uploads.py (the files among that), refused.py (what starts nothing), conf.py (the settings), checks/
(what they must allow), readiness.py (whether all that jobs need is there).

Without a worker: inline.py (runs a job in this process, in eager mode and in tests), testing.py and pytest_plugin.py
(for the tests of a project), terminal.py (the progress bar in a terminal),
management/commands/job.py (start, watch, cancel and list jobs from a shell).

Coming from another package: contrib/celery_progress.py (its recorder and its view).

For pages: templatetags/livejobs.py (the forms and bars of a template), templates/livejobs/ (job.html: what is
in a bar), static/livejobs/ (page.js: the forms; bars.js: the list; job-bar.js: one bar), views.py (the page of each
job, and what forms post without scripts, at the addresses in urls.py), timeline.py (what such a page tells),
addresses.py (addresses of this site in every thread), download.py (the files that a job has made).

For programs: api/ (views.py: the JSON API of jobs, at the addresses in urls.py; request.py: how a request is read;
problem.py: the shape of errors; tokens.py: the JWTs that sockets may bring).
Under it all: under/ (whatever touches the insides of another library: brokers, servers).
"""

import importlib
from typing import Any

__version__ = "0.1.0"
#: The public names, and the module of each. Django imports this package before its models may be imported, so each
#: module is imported when a name of it is first asked for. Source: PEP 562.
PUBLIC = {
    "JobTask": "task",
    "JobError": "outcome",
    "TryAgain": "outcome",
    "Refused": "jobs",
    "start": "jobs",
    "cancel": "jobs",
    "retry": "jobs",
    "job_started": "signals",
    "job_finished": "signals",
    "asgi": "application",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)
