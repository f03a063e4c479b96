"""The admin shows all jobs and workers, cancels and repeats jobs, and edits none."""

import html

import pytest
from django.contrib.auth.models import Permission

from livejobs.models import Job, State, Worker

LIST, WORKERS = "/admin/livejobs/job/", "/admin/livejobs/worker/"


@pytest.fixture
def listed(admin_client):
    """Returns the text of a page of the admin."""

    def listed(address=LIST):
        answer = admin_client.get(address)
        assert answer.status_code == 200
        return html.unescape(answer.content.decode())

    return listed


@pytest.fixture
def act(admin_client):
    """Does an action to jobs. Returns what the admin is told."""

    def act(action, *jobs):
        selected = [str(job.pk) for job in jobs]
        answer = admin_client.post(LIST, {"action": action, "_selected_action": selected}, follow=True)
        return [str(message) for message in answer.context["messages"]]

    return act


def job_of(owner="visitor-1", title="Primes", **fields):
    return Job.objects.create(owner=owner, kind="count_primes", title=title, params={"below": 1000}, **fields)


def ended(state=State.SUCCESS, title="Primes", owner="visitor-1", **how):
    job = job_of(owner, title)
    job.end(state, **how)
    job.save_end()
    return job


def page_of(job):
    return f"{LIST}{job.pk}/change/"


def test_the_newest_job_comes_first(listed):
    for title in ("First", "Second"):
        job_of(title=title)
    assert listed().index("Second") < listed().index("First")


@pytest.mark.parametrize("asked", ["Mine", "user-7", "{pk}"])
def test_a_job_is_found_by_a_part_of_its_title_its_owner_and_its_id(listed, asked):
    found = job_of("user-7", "Mine, all mine")
    job_of("user-77", "Another one")
    page = listed(f"{LIST}?q={asked.format(pk=found.pk)}")
    assert "Mine, all mine" in page
    assert "Another one" not in page


def test_a_user_who_owns_a_job_is_a_link_and_a_visitor_is_cut_short(listed, admin_user):
    job_of(f"user-{admin_user.pk}")
    job_of("visitor-0123456789abcdef")
    assert f'<a href="/admin/HomeApp/user/{admin_user.pk}/change/">user-{admin_user.pk}</a>' in listed()
    assert "visitor-01234567…" in listed()


def test_a_job_shows_its_traceback_as_it_was_printed_its_parameters_and_its_result(listed):
    page = listed(page_of(ended(State.FAILURE, error="Sorry.", traceback="Traceback:\n  line 7 <b>")))
    assert "Traceback:\n  line 7 <b></pre>" in page
    assert '"below": 1000' in page
    assert "Sorry." in page
    assert '"answer": "Löwe"' in listed(page_of(ended(result={"answer": "Löwe"})))


def test_how_long_a_job_took_is_shown(listed):
    job = ended()
    Job.objects.filter(pk=job.pk).update(started_at="2026-01-01T10:00:00Z", finished_at="2026-01-01T11:02:03Z")
    assert "1:02:03" in listed()
    assert "1:02:03" in listed(page_of(job))


def test_nothing_is_added_or_changed(admin_client):
    job = ended()
    assert admin_client.post(page_of(job), {"state": "FAILURE"}).status_code == 403
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{WORKERS}add/").status_code == 403


def test_only_jobs_that_have_ended_are_deleted(admin_client):
    done, runs = ended(title="Ended"), job_of(title="Still runs", attempt=1, state="PROGRESS")
    delete = {"action": "delete_selected", "post": "yes"}
    answer = admin_client.post(LIST, {**delete, "_selected_action": [str(done.pk), str(runs.pk)]})
    assert "Still runs (PROGRESS) has not ended. Cancel it first." in answer.content.decode()
    assert Job.objects.count() == 2
    assert admin_client.post(f"{LIST}{runs.pk}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(LIST, {**delete, "_selected_action": [str(done.pk)]})
    assert list(Job.objects.all()) == [runs]


def test_jobs_of_any_owner_are_cancelled_and_what_cannot_be_is_said(act):
    waits, done = job_of(), ended(title="Done already")
    assert act("cancel_selected", waits, done) == [
        "Done already: task_id: this job has ended already, so there is nothing to cancel.",
        "1 job is cancelled.",
    ]
    waits.refresh_from_db()
    assert waits.state == State.REVOKED


def test_jobs_are_repeated_for_their_owner(act, listed):
    failed = [ended(State.FAILURE, owner="user-7"), ended(State.REVOKED, owner="user-8")]
    assert act("retry_selected", *failed) == ["2 jobs are repeated."]
    repeats = Job.objects.filter(retry_of__in=failed)
    assert {job.owner for job in repeats} == {"user-7", "user-8"}
    again = repeats.first()
    assert f'<a href="{page_of(again.retry_of)}">{again.retry_of}</a>' in listed(page_of(again))


def test_who_may_only_look_cancels_nothing(client, django_user_model):
    looks = django_user_model.objects.create_user("looks", is_staff=True)
    looks.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(looks)
    waits = job_of()
    client.post(LIST, {"action": "cancel_selected", "_selected_action": [str(waits.pk)]})
    waits.refresh_from_db()
    assert not waits.final
    assert "cancel_selected" not in client.get(LIST).content.decode()


def test_workers_are_shown_with_what_they_run_and_a_job_names_its_worker(listed):
    job = job_of(title="Runs here", state="PROGRESS", attempt=1)
    worker = Worker.objects.create(host="w1@there", pool="prefork", slots=4, jobs=[str(job.pk)])
    Job.objects.filter(pk=job.pk).update(lease=worker)
    assert "w1@there" in listed(WORKERS)
    assert f'<a href="{page_of(job)}">Runs here (PROGRESS)</a>' in listed(f"{WORKERS}{worker.pk}/change/")
    assert f'<a href="{WORKERS}{worker.pk}/change/">w1@there (ALIVE)</a>' in listed(page_of(job))
