"""`manage.py job` in this process: what it says, and its exit codes."""

import io
from types import SimpleNamespace

import pytest
from django import forms
from django.core.management import CommandError, call_command
from django.db import OperationalError

from HomeApp.models import User
from livejobs import jobs, terminal
from livejobs.inline import Inline
from livejobs.management.commands import job as command
from livejobs.models import Job
from livejobs.task import JobError, TryAgain
from testkit.screen import Screen

pytestmark = pytest.mark.django_db(transaction=True)


class Ran:
    """What a run of the command has written, and its exit code.

    Args:
        arguments: of `manage.py job`.
        stderr: where it writes what is no result.
    """

    def __init__(self, *arguments, stderr=None):
        out, self.stderr, self.code = io.StringIO(), stderr or io.StringIO(), 0
        try:
            call_command("job", *arguments, stdout=out, stderr=self.stderr)
        except SystemExit as end:
            self.code = end.code
        except CommandError as error:
            self.code = error.returncode
            self.stderr.write(str(error))
        self.out = out.getvalue()

    @property
    def err(self):
        return self.stderr.getvalue()


@pytest.fixture
def worker(monkeypatch):
    """A worker that runs a job to its end while the command waits for its next look."""

    def run_next(seconds):
        job = Job.objects.unfinished().first()
        Inline(lambda snapshots: None).run(jobs.kinds()[job.kind], str(job.pk), (), job.params)

    monkeypatch.setattr(command.time, "sleep", run_next)


@pytest.fixture
def waits(monkeypatch):
    """Sets what happens while the command waits for its next look, the n-th time: one function for each."""

    def waits(*steps):
        remaining = iter(steps)
        monkeypatch.setattr(command.time, "sleep", lambda seconds: next(remaining)())

    return waits


def interrupt():
    raise KeyboardInterrupt


def test_a_start_prints_the_id_and_how_to_watch_the_job():
    ran = Ran("start", "count_primes", "below=1000")
    job = Job.objects.get()
    assert (ran.code, ran.out) == (0, f"{job.pk}\n")
    assert f"manage.py job watch {job.pk}" in ran.err
    assert (job.params, job.state) == ({"below": 1000}, "PENDING")
    assert job.owner.startswith("visitor-")


def test_a_start_for_a_user_is_the_users():
    user = User.objects.create_user("ada")
    Ran("start", "count_primes", "below=1000", "--user", "ada")
    assert Job.objects.get().owner == f"user-{user.pk}"
    ran = Ran("start", "count_primes", "--user", "unknown")
    assert (ran.code, Job.objects.count()) == (1, 1)
    assert "There is no user 'unknown'. Leave --user out" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["unknown"], "welcome_email"),
        (["count_primes", "above=1"], "above: there is no such parameter. Known: below."),
        (["count_primes", "below=many"], "below: Enter a whole number."),
        (["count_primes", "below=1000", "below=2000"], "below: give it once."),
        (["count_primes", "below"], "'below' is no parameter: write name=value."),
        (["export_jobs", "everybody=0"], "everybody: write everybody=true or everybody=false."),
    ],
    ids=["unknown kind", "unknown parameter", "refused value", "given twice", "no value", "no truth"],
)
def test_a_start_that_is_refused_says_the_remedy_and_starts_nothing(arguments, says):
    ran = Ran("start", *arguments)
    assert ran.code == 1
    assert says in ran.err
    assert Job.objects.count() == 0


def test_parameters_are_what_the_form_takes(new_kind):
    class Form(forms.Form):
        names = forms.MultipleChoiceField(choices=[("a", "A"), ("b", "B")])
        quick = forms.BooleanField(required=False)
        text = forms.CharField()

    def takes(task, names, quick, text): ...

    new_kind(takes, form=Form)
    assert Ran("start", "takes", "names=a", "quick=false", "text=x=1 2").code == 0
    assert Ran("start", "takes", "names=a", "names=b", "quick=true", "text=").err.endswith("This field is required.")
    assert Job.objects.get().params == {"names": ["a"], "quick": False, "text": "x=1 2"}


def test_a_file_is_given_by_its_path(new_kind, worker, tmp_path, settings):
    class Form(forms.Form):
        photo = forms.FileField()
        taken = forms.SplitDateTimeField()

    def takes(task, photo, taken):
        return f"{photo.name} {photo.read().decode()} {taken.isoformat()}"

    new_kind(takes, form=Form)
    settings.LIVEJOBS = {**settings.LIVEJOBS, "FILES_DIR": tmp_path / "files"}
    (tmp_path / "me.txt").write_text("pixels")
    ran = Ran("start", "takes", f"photo={tmp_path / 'me.txt'}", "taken=2026-01-02T03:04:05Z", "--follow")
    assert ran.out.endswith('\n"me.txt pixels 2026-01-02T03:04:05+00:00"\n')
    ran = Ran("start", "takes", f"photo={tmp_path}", "taken=2026-01-02T03:04:05Z")
    assert f"photo: '{tmp_path}' cannot be read: Is a directory." in ran.err
    assert Job.objects.count() == 1


def test_a_success_that_is_followed_prints_the_result(worker):
    ran = Ran("start", "count_primes", "below=1000", "--follow")
    assert (ran.code, ran.out) == (0, f"{Job.objects.get().pk}\n168\n")
    assert ran.err.splitlines() == ["PENDING Primes below 1000", "100% SUCCESS Primes below 1000"]


def test_a_failure_that_is_followed_says_why(worker, new_kind):
    def fails(task):
        task.update_state(meta={"current": 1, "total": 4})
        raise JobError("The server is \x1b[2Jgone.")

    new_kind(fails, title="A test")
    ran = Ran("start", "fails", "--follow")
    assert ran.code == 1
    assert ran.err.splitlines()[-2:] == ["25% FAILURE A test", "The server is [2Jgone."]


def test_a_job_that_is_cancelled_meanwhile_is_not_a_success(waits):
    waits(lambda: Ran("cancel", str(Job.objects.get().pk)))
    ran = Ran("start", "count_primes", "--follow")
    assert (ran.code, ran.err.splitlines()[-1]) == (1, "The job was cancelled.")


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_cancel_it(waits):
    waits(interrupt)
    ran = Ran("start", "count_primes", "below=1000", "--follow")
    job = Job.objects.get()
    assert (ran.code, job.state) == (130, "PENDING")
    assert f"Job {job.pk} goes on." in ran.err
    assert f"manage.py job cancel {job.pk}" in ran.err


def test_a_watched_job_says_why_it_is_tried_again(worker, new_kind):
    def busy(task):
        if task.request.retries < 1:
            raise TryAgain("The server is busy.")

    new_kind(busy, title="A test")
    job = jobs.start("visitor-1", "busy", {})
    ran = Ran("watch", str(job.pk))
    assert ran.code == 0
    assert ran.err.splitlines()[-1] == "100% SUCCESS (attempt 2: The server is busy.) A test"


def test_a_job_that_has_ended_is_watched_to_its_end_at_once(run_job):
    job = run_job("count_primes", below=1000)
    assert (Ran("watch", str(job.pk)).code, Ran("watch", str(job.pk)).out) == (0, "168\n")


@pytest.mark.parametrize("action", ["watch", "cancel"])
@pytest.mark.parametrize("task_id", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_job_says_the_remedy(action, task_id):
    ran = Ran(action, task_id)
    assert ran.code == 1
    assert f"There is no job {task_id}. `manage.py job list` lists them." in ran.err


def test_a_job_that_is_deleted_while_it_is_watched_is_no_success(waits):
    waits(Job.objects.all().delete)
    ran = Ran("start", "count_primes", "--follow")
    assert ran.code == 1
    assert "There is no job" in ran.err


def test_what_cannot_be_cancelled_says_so(run_job):
    ran = Ran("cancel", str(run_job("count_primes", below=1000).pk))
    assert ran.code == 1
    assert "has ended already" in ran.err


def test_a_watch_outlasts_an_outage_of_the_database(waits, worker, monkeypatch):
    row, end = command._row, command.time.sleep

    def away(task_id):
        raise OperationalError("away")

    monkeypatch.setattr(command.connections, "close_all", lambda: None)
    waits(
        lambda: monkeypatch.setattr(command, "_row", away),
        lambda: None,
        lambda: monkeypatch.setattr(command, "_row", row),
        lambda: end(0),
    )
    ran = Ran("start", "count_primes", "below=1000", "--follow")
    assert ran.code == 0
    assert ran.err.count("The database cannot be reached.") == 1


@pytest.mark.parametrize("is_relayed", [True, False], ids=["no worker", "no relay"])
def test_a_watch_says_why_there_is_no_news(waits, monkeypatch, is_relayed):
    now, beats = [1000.0], [1]
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(command.RelayLease.objects, "values_list", lambda *args, **kwargs: beats)

    def later():
        now[0] += command.SILENCE
        beats[0] += is_relayed

    waits(later, later, interrupt)
    ran = Ran("start", "count_primes", "--follow")
    assert ran.err.count(command.NO_WORKER if is_relayed else command.NO_RELAY) == 1


def test_in_a_terminal_a_job_is_drawn_as_a_bar(worker, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    screen = Screen()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=screen))
    assert Ran("start", "count_primes", "below=1000", "--follow", stderr=screen).code == 0
    assert screen.drawn[-1].startswith("SUCCESS Primes below 1000: 100%|")
    assert screen.getvalue().count("\n") == 1


def test_a_list_is_of_the_state_kind_and_user_that_are_asked_for(run_job, new_kind):
    def fails(task):
        raise JobError

    new_kind(fails, title="Odd \x1b[31mtitle")
    user = User.objects.create_user("ada")
    one = run_job("count_primes", below=1000)
    other = run_job("fails", owner=f"user-{user.pk}")

    def ids(*arguments):
        return [line.split()[0] for line in Ran("list", *arguments).out.splitlines()]

    assert ids() == [str(other.pk), str(one.pk)], "the newest first"
    assert ids("--state", "failure") == ids("--kind", "fails") == ids("--user", "ada") == [str(other.pk)]
    assert ids("--state", "SUCCESS", "--kind", "fails") == []
    assert ids("--limit", "1") == [str(other.pk)]
    assert "\x1b" not in Ran("list").out
    assert "SUCCESS   100%" in Ran("list").out


def test_a_list_of_a_kind_that_there_is_not_says_the_remedy():
    ran = Ran("list", "--kind", "unknown")
    assert ran.code == 1
    assert "There is no kind of job 'unknown'. Known:" in ran.err
    assert "welcome_email" in ran.err
