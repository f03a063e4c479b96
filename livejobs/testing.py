"""For the tests of a project: run a job of any kind at once, and see what its watchers would have been shown."""

import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from livejobs import jobs, uploads
from livejobs.inline import Inline
from livejobs.models import FINAL, Job, State
from livejobs.owner import new_visitor, owner_of_asker
from livejobs.snapshot import Snapshot

__all__ = ["assert_truthful", "run_job"]

if TYPE_CHECKING:

    class RanJob(Job):
        """A job as `run_job` returns it."""

        snapshots: list[dict[str, Any]]  #: each that a watcher would have been shown, from PENDING to the end
        exception: BaseException | None  #: what the task has raised, if the job has failed


def run_job(kind: str, /, *, owner: Any = None, **params: Any) -> "RanJob":
    """Run a job to its end, in this thread: without a broker, a worker, a relay's thread and a socket.

    The form checks the parameters, the task makes its attempts, and a relay writes the row, all as in production. Only
    nothing is waited for: a task that raises `TryAgain` is tried again at once. What the job does on commit is done on
    commit, so not within a test's own transaction.

    Args:
        kind: the task's short name. It may be one that only the site starts.
        owner: the owner of the job: a request, a user, or an owner from `livejobs.owner`; a new visitor unless given.
        **params: what the kind's form asks for; what is missing takes the form's initial value.

    Returns:
        The job as its row says, with `snapshots`, each that a watcher would have been shown, as dicts, and
        `exception`, what the task has raised if the job has failed.

    Raises:
        jobs.Refused: the job is not started: the kind is unknown, or the form refuses the parameters.
        KeyboardInterrupt: it was raised while the task ran.
    """
    job: Any = jobs.prepare(owner_of_asker(owner) or new_visitor(), kind, params, by_site=True)
    job.sent = True
    with uploads.store(job) as undo:
        job.save(force_insert=True)
        undo.pop_all()
    shown = [Snapshot.of(job)]

    def publish(snapshots: list[Snapshot]) -> None:
        shown.extend(one for one in snapshots if one.seq > shown[-1].seq)  # as the hub does

    exception = Inline(publish).run(jobs.kinds()[kind], str(job.pk), (), job.params)
    job.refresh_from_db()
    job.snapshots = [json.loads(one.text) for one in shown]
    job.exception = exception
    return job  # type: ignore[no-any-return]  # type checkers alone know its class


def assert_truthful(snapshots: Sequence[dict[str, Any]]) -> None:
    """Hold what a watcher was shown of one job against the rules that every job keeps.

    `seq` grows. The percentage never falls within an attempt, and a success is at 100 %. No attempt comes after a later
    one, and each says why it is not the first. There is one end, and nothing comes after it.

    Args:
        snapshots: `run_job(...).snapshots`, or the frames of a socket.

    Raises:
        AssertionError: a rule is broken; it says which one, and where.
    """
    for before, after in itertools.pairwise(snapshots):
        where = f"after {_brief(before)} came {_brief(after)}"
        _hold(after["task_id"] == before["task_id"], f"These are snapshots of two jobs: {where}.")
        _hold(before["state"] not in FINAL, f"Something comes after the end: {where}.")
        _hold(after["seq"] > before["seq"], f"seq does not grow: {where}.")
        _hold(after["attempt"] >= before["attempt"], f"An earlier attempt comes later: {where}.")
        if after["attempt"] == before["attempt"]:
            _hold((after["percent"] or 0) >= (before["percent"] or 0), f"The percentage falls: {where}.")
    for one in snapshots:
        _hold(one["attempt"] < 2 or one["attempt_reason"], f"Not told why it is not the first attempt: {_brief(one)}.")
        _hold(one["state"] != State.SUCCESS or one["percent"] == 100, f"A success is not at 100 %: {_brief(one)}.")
    last = _brief(snapshots[-1]) if snapshots else "nothing"
    _hold(bool(snapshots) and snapshots[-1]["state"] in FINAL, f"There is no end: the last was {last}.")


def _hold(is_true: Any, otherwise: str) -> None:
    if not is_true:
        raise AssertionError(otherwise)


def _brief(snapshot: dict[str, Any]) -> str:
    percent = "" if snapshot["percent"] is None else f" at {snapshot['percent']} %"
    return f"{snapshot['state']}{percent} (attempt {snapshot['attempt']}, seq {snapshot['seq']})"
