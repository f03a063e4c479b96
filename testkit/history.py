"""Whether what watchers were told was the truth: `check` holds a history against the rules of DESIGN.md."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
#: The close code for "no such job".
NOT_FOUND = 4404
#: What a row and the last frame have in common, and what may never change once a job has ended.
SAME = ("state", "result", "error", "attempt", "current", "total", "seq")


class Told(NamedTuple):
    """One frame, as it came."""

    at: float  #: seconds, of `time.monotonic`
    connection: int  #: which of the watcher's connections, from 1
    frame: dict[str, Any]


@dataclass
class Heard:
    """All that one page has asked for and has been told."""

    watcher: str
    owner: str  #: who the page belongs to; pages of one owner share their jobs
    room: str | None = None  #: the one job that it watches; all of its owner's unless given
    asked: dict[str, Any] = field(default_factory=dict)  #: ref of each start -> the right answer, None where unknown
    refused: dict[str, str] = field(default_factory=dict)  #: ref -> the code of the error that answered it
    cancelled: set[str] = field(default_factory=set)  #: the ids of the jobs that it has cancelled
    told: list[Told] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)  #: the code of each connection's end
    by_job: dict[str, list[Told]] = field(default_factory=dict)  #: an index of `told`, of which `indexed` are in it
    by_ref: dict[str, str] = field(default_factory=dict)
    indexed: int = 0

    def frames(self, task_id: str) -> list[Told]:
        """Return all that was told of a job; an error names one too, and tells nothing of it."""
        self._index()
        return self.by_job.get(task_id, [])

    def _index(self) -> None:
        while self.indexed < len(self.told):
            one = self.told[self.indexed]
            self.indexed += 1
            if one.frame["type"] == "job":
                self.by_job.setdefault(one.frame["task_id"], []).append(one)
                self.by_ref.setdefault(one.frame["ref"], one.frame["task_id"])

    def fresh(self, task_id: str) -> list[dict[str, Any]]:
        """Return what was news of a job: like `socket.js` the page drops what is older than what it has."""
        fresh: list[dict[str, Any]] = []
        for one in self.frames(task_id):
            if not fresh or (fresh[-1]["state"] not in FINAL and fresh[-1]["seq"] <= one.frame["seq"]):
                fresh.append(one.frame)
        return fresh

    def shown(self, task_id: str) -> list[dict[str, Any]]:
        """Return what the page has drawn of a job: like `job-bar.js` it keeps the highest percentage of an attempt."""
        drawn: list[dict[str, Any]] = []
        for frame in self.fresh(task_id):
            known = drawn[-1]["percent"] if drawn and drawn[-1]["attempt"] == frame["attempt"] else None
            drawn.append({**frame, "percent": known} if known and known > (frame["percent"] or 0) else frame)
        return drawn

    def task_of(self, ref: str) -> str | None:
        """Return the job that a start was answered with; None while it was not."""
        self._index()
        return self.by_ref.get(ref)

    def ended(self, task_id: str) -> bool:
        """Tell whether the end of a job was told."""
        return any(one.frame["state"] in FINAL for one in self.frames(task_id))


Row = dict[str, Any]


def check(
    history: list[Heard],
    rows: list[Row],
    *,
    attempts: Mapping[str, list[int]] = MappingProxyType({}),
    nothing_lost: bool = False,
    one_attempt: bool = False,
    relays_live: bool = True,
) -> list[str]:
    """Hold a history against the rules.

    Args:
        history: what each watcher has asked for and was told.
        rows: the jobs' rows as they are now, when all ends should have been told.
        attempts: the attempt that each execution of a job belonged to, for those jobs that have written them down.
        nothing_lost: whether no worker was lost, and no message of a job, so that no job may be said to be lost.
        one_attempt: whether no worker has left either, so that each job has had one attempt.
        relays_live: whether no relay was killed. The percentages that a killed relay has told in its last second are in
            no row, and what is told afterwards may be less. A page goes on showing what it has shown.

    Returns:
        A sentence for each violation; none where all was as it should be.
    """
    history = [_only_jobs(heard) for heard in history]
    return [
        *_not_ours(history, rows),
        *_two_jobs(history, rows),
        *lost_ends(history, rows),
        *_second_ends(history),
        *_steps_back(history, relays_live),
        *_untrue_rows(history, rows),
        *_wrong_answers(history, rows),
        *_executed_twice(rows, attempts),
        *(_said_to_be_lost(history, rows) if nothing_lost else ()),
        *(_begun_again(rows) if one_attempt else ()),
    ]


def _only_jobs(heard: Heard) -> Heard:
    told = [one for one in heard.told if one.frame.get("type") == "job"]
    return Heard(
        heard.watcher, heard.owner, heard.room, heard.asked, heard.refused, heard.cancelled, told, heard.closed
    )


def _refs_of(history: list[Heard]) -> dict[str, set[str]]:
    refs: dict[str, set[str]] = defaultdict(set)
    for heard in history:
        refs[heard.owner] |= heard.asked.keys()
    return refs


def _jobs_of(heard: Heard) -> list[str]:
    return list(dict.fromkeys(one.frame["task_id"] for one in heard.told))


def _not_ours(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    """Nobody else's news; and a page is not told that its own job does not exist."""
    refs = _refs_of(history)
    for heard in history:
        for one in heard.told:
            task_id, ref = one.frame["task_id"], one.frame["ref"]
            if ref not in refs[heard.owner] or heard.room not in (None, task_id):
                yield f"Somebody else's news: {heard.watcher} was told of job {task_id}."
        if heard.room and NOT_FOUND in heard.closed:
            yield f"{heard.watcher} was told that its own job {heard.room} does not exist."
    owner_of = {ref: owner for owner, mine in refs.items() for ref in mine}
    owners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.get("parent_id"):
            continue  # its parent was asked for
        if row["ref"] not in owner_of:
            yield f"Job {row['id']} was asked for by nobody."
        else:
            owners[row["owner"]].add(owner_of[row["ref"]])
    for owner, pages in owners.items():
        if len(pages) > 1:
            yield f"Somebody else's jobs: the rows of {owner} were asked for by {', '.join(sorted(pages))}."


def _two_jobs(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    """The same ref twice starts one job."""
    jobs: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        jobs[row["ref"]].add(row["id"])
    for heard in history:
        for one in heard.told:
            jobs[one.frame["ref"]].add(one.frame["task_id"])
    for ref, ids in jobs.items():
        if len(ids) > 1:
            yield f"Two jobs for one ref {ref}: {', '.join(sorted(ids))}."


def lost_ends(history: list[Heard], rows: list[Row]) -> list[str]:
    """Every accepted start ends in a final state, in its row and before every watcher; a refused one leaves nothing."""
    return [*_lost_starts(history, rows), *_lost_ends(history, rows)]


def _lost_starts(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    by_ref = {row["ref"]: row for row in rows}
    for heard in history:
        for ref in heard.asked:
            if ref in heard.refused and ref in by_ref:
                yield f"A refused start ({heard.refused[ref]}) has left job {by_ref[ref]['id']} behind."
            elif ref not in heard.refused and ref not in by_ref:
                yield f"Lost start: {heard.watcher} was never answered, or told of a job without a row; ref {ref}."


def _lost_ends(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    refs = _refs_of(history)
    for row in rows:
        if row["state"] not in FINAL:
            yield f"Lost end: the row of job {row['id']} still says {row['state']}, attempt {row['attempt']}."
        for heard in history:
            if row["ref"] in refs[heard.owner] and heard.room in (None, row["id"]) and not heard.ended(row["id"]):
                last = heard.frames(row["id"])[-1].frame["state"] if heard.frames(row["id"]) else "nothing"
                yield f"Lost end: {heard.watcher} was last told {last} of job {row['id']} ({row['state']})."


def _second_ends(history: list[Heard]) -> Iterator[str]:
    """Finished is final: for each watcher, and the same for all of them."""
    ends: dict[str, dict[str, Any]] = {}
    for heard in history:
        for task_id in _jobs_of(heard):
            ended = False
            for _, connection, frame in heard.frames(task_id):
                if frame["state"] in FINAL:
                    ended = True
                    end = ends.setdefault(task_id, frame)
                    if _differ(end, frame):
                        yield f"A second end of job {task_id}: {heard.watcher} was told {_differ(end, frame)}."
                elif ended:
                    yield f"{heard.watcher} was told {frame['state']} of job {task_id} after its end, {connection=}."


def _steps_back(history: list[Heard], relays_live: bool) -> Iterator[str]:
    """Within one connection nothing goes back; over all of them, nothing that a page shows goes back."""
    for heard in history:
        for task_id in _jobs_of(heard):
            told = heard.frames(task_id)
            for one, other in itertools.pairwise(told):
                if one.connection == other.connection:
                    yield from _step_back(one.frame, other.frame, f"{heard.watcher} was told")
            for before, after in itertools.pairwise(heard.fresh(task_id) if relays_live else heard.shown(task_id)):
                yield from _step_back(before, after, f"The page of {heard.watcher} has shown")


def _step_back(before: dict[str, Any], after: dict[str, Any], who: str) -> Iterator[str]:
    if after["seq"] < before["seq"]:
        yield f"A step back of job {after['task_id']}: {who} seq {before['seq']}, then {after['seq']}."
    if after["attempt"] < before["attempt"]:
        yield f"A falling attempt of job {after['task_id']}: {who} {before['attempt']}, then {after['attempt']}."
    known = before["percent"]
    if after["attempt"] == before["attempt"] and known is not None and (after["percent"] or 0) < known:
        yield f"A step back of job {after['task_id']}: {who} {known} %, then {after['percent']} ({after['state']})."


def _untrue_rows(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    """The last that a page shows is what the row says."""
    by_id = {row["id"]: row for row in rows}
    for heard in history:
        for task_id in _jobs_of(heard):
            row, frame = by_id.get(task_id), heard.shown(task_id)[-1]
            if row is None:
                yield f"{heard.watcher} was told of job {task_id}, which has no row."
            elif row["state"] in FINAL and frame["state"] in FINAL and _differ(row, frame):
                yield f"The row of job {task_id} and {heard.watcher} disagree: {_differ(row, frame)}."


def _differ(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return in words where two pictures of a job differ; nothing where they do not."""
    pairs = ((name, one[name] or None, other[name] or None) for name in SAME)  # a row's empty error is a frame's null
    return ", ".join(f"{name} {this!r} and {that!r}" for name, this, that in pairs if this != that)


def _wrong_answers(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    """A success has the right answer, at 100 %; and only what was cancelled ends as cancelled.

    The children of a job that has failed are cancelled with it.
    """
    cancelled = {task_id for heard in history for task_id in heard.cancelled}
    cancelled |= {row["id"] for row in rows if row["state"] == "FAILURE"}
    yield from (
        f"Job {row['id']} ended as cancelled, and nobody has cancelled it."
        for row in rows
        if row["state"] == "REVOKED" and row["id"] not in cancelled and row.get("parent_id") not in cancelled
    )
    answers = {ref: answer for heard in history for ref, answer in heard.asked.items() if answer is not None}
    for row in rows:
        if row["state"] == "SUCCESS" and row["result"] != answers.get(row["ref"], row["result"]):
            yield f"Job {row['id']} has the answer {row['result']} instead of {answers[row['ref']]}."
    for heard in history:
        for one in heard.told:
            if one.frame["state"] == "SUCCESS" and one.frame["percent"] != 100:
                yield f"{heard.watcher} was told of a success at {one.frame['percent']} %."


def _executed_twice(rows: list[Row], attempts: Mapping[str, list[int]]) -> Iterator[str]:
    """An attempt is executed once, and no attempt is executed that the row does not know."""
    for row in rows:
        for attempt, times in Counter(attempts.get(row["id"], [])).items():
            if times > 1:
                yield f"Attempt {attempt} of job {row['id']} was executed {times} times."
            if attempt > row["attempt"]:
                yield f"Attempt {attempt} of job {row['id']} was executed, and its row knows {row['attempt']}."


def _begun_again(rows: list[Row]) -> Iterator[str]:
    """A job whose worker lives and stays is begun once."""
    for row in rows:
        if row["attempt"] > 1:
            yield f"Job {row['id']} was begun {row['attempt']} times, and its worker lived."


def _said_to_be_lost(history: list[Heard], rows: list[Row]) -> Iterator[str]:
    """A job whose worker lived is not said to be lost."""
    for row in rows:
        if row.get("losses"):
            yield f"Job {row['id']} has {row['losses']} losses, and its worker lived."
    for heard in history:
        for one in heard.told:
            why = f"{one.frame['error'] or ''} {one.frame.get('attempt_reason') or ''}".strip()
            if "lost" in why:
                yield f"{heard.watcher} was told {why!r} of job {one.frame['task_id']}, and its worker lived."
                break
