"""The sockets, as their contract in the README has it. Nothing here is run by a worker."""

import json
import uuid

import pytest
from asgiref.sync import sync_to_async

from livejobs.models import Job, State
from livejobs.snapshot import Snapshot

pytestmark = pytest.mark.django_db(transaction=True)

START = {"type": "start", "kind": "count_primes", "params": {"below": 1000}}


@sync_to_async
def make(owner, state=State.PENDING, **fields) -> Job:
    job = Job(owner=owner, kind="count_primes", title="Primes", **fields)
    if state != State.PENDING:
        job.end(state)
    job.save()
    return job


@sync_to_async
def count() -> int:
    return Job.objects.count()


async def publish(hub, job, **changes):
    for name, value in changes.items():
        setattr(job, name, value)
    hub.publish([Snapshot.of(job)])


# ws/jobs/


async def test_a_start_is_answered_with_the_waiting_job(socket):
    visitor = await socket()
    ref = str(uuid.uuid4())
    await visitor.send(**START, ref=ref)
    frame = await visitor.frame()
    assert (frame["type"], frame["state"], frame["ref"], frame["title"]) == ("job", "PENDING", ref, "Primes below 1000")


async def test_a_start_without_params_takes_the_forms_own(socket):
    visitor = await socket()
    await visitor.send(type="start", kind="count_primes")
    assert (await visitor.frame())["title"] == "Primes below 35000000"


async def test_the_same_ref_twice_starts_one_job(socket):
    visitor = await socket()
    for _ in range(2):
        await visitor.send(**START, ref="7c4a8d09-ca37-4d61-b2e5-26bfc4b0a8d1")
    first, second = await visitor.frame(), await visitor.frame()
    assert first["task_id"] == second["task_id"]
    assert await count() == 1


async def test_the_same_ref_of_two_owners_starts_two_jobs(socket):
    ref = str(uuid.uuid4())
    for visitor in (await socket(), await socket()):
        await visitor.send(**START, ref=ref)
        await visitor.frame()
    assert await count() == 2


BAD_FRAMES = {
    "no json": ("{", "bad_json", None),
    "too deep": ("[" * 32_000, "bad_json", None),
    "too many digits": ('{"type": ' + "9" * 32_000 + "}", "bad_json", None),
    "no object": ("[1]", "bad_frame", None),
    "no type": ("{}", "unknown_type", "type"),
    "unknown type": ('{"type": "stop"}', "unknown_type", "type"),
    "type of another type": ('{"type": ["start"]}', "unknown_type", "type"),
    "no kind": ('{"type": "start"}', "unknown_kind", "kind"),
    "unknown kind": ('{"type": "start", "kind": "mine_bitcoin"}', "unknown_kind", "kind"),
    "kind of another type": ('{"type": "start", "kind": {}}', "unknown_kind", "kind"),
    "params no object": (json.dumps({**START, "params": [1]}), "bad_params", "params"),
    "unknown parameter": (json.dumps({**START, "params": {"above": 1}}), "bad_params", "above"),
    "too small": (json.dumps({**START, "params": {"below": 999}}), "bad_params", "below"),
    "too large": (json.dumps({**START, "params": {"below": 100_000_001}}), "bad_params", "below"),
    "no number": (json.dumps({**START, "params": {"below": "many"}}), "bad_params", "below"),
    "no whole number": (json.dumps({**START, "params": {"below": 1000.5}}), "bad_params", "below"),
    "a list": (json.dumps({**START, "params": {"below": [1000]}}), "bad_params", "below"),
    "true": (json.dumps({**START, "params": {"below": True}}), "bad_params", "below"),
    "null": (json.dumps({**START, "params": {"below": None}}), "bad_params", "below"),
    "bad ref": (json.dumps({**START, "ref": "mine"}), "bad_ref", "ref"),
    "ref of another type": (json.dumps({**START, "ref": 7}), "bad_ref", "ref"),
    "too long": (json.dumps({**START, "padding": "é" * 16_400}, ensure_ascii=False), "frame_too_large", None),
}


@pytest.mark.parametrize(("text", "code", "field"), BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_a_bad_frame_gets_a_clear_error_and_starts_nothing(socket, text, code, field):
    visitor = await socket()
    await visitor.send_to(text_data=text)
    error = await visitor.frame()
    assert (error["type"], error["code"], error["field"]) == ("error", code, field)
    assert error["detail"]
    assert field is None or field in error["detail"]
    assert await count() == 0
    await visitor.send(**START)
    assert (await visitor.frame())["state"] == "PENDING"


async def test_a_binary_frame_gets_a_clear_error(socket):
    visitor = await socket()
    await visitor.send_to(bytes_data=b"\x00\xff")
    assert (await visitor.frame())["code"] == "bad_frame"


async def test_an_error_names_the_start_it_answers(socket):
    visitor = await socket()
    ref = str(uuid.uuid4())
    await visitor.send(type="start", kind="?", ref=ref)
    assert (await visitor.frame())["ref"] == ref


@pytest.mark.parametrize(("padding", "end"), [("x" * 33_000, "}"), ("", "")], ids=["too large", "no JSON"])
async def test_an_error_names_the_start_though_the_frame_is_not_read(socket, padding, end):
    visitor = await socket()
    ref = str(uuid.uuid4())
    params = {"text": f'{padding}"ref":"{uuid.uuid4()}"'}
    text = json.dumps({"type": "start", "kind": "search", "params": params, "ref": ref}).removesuffix("}") + end
    await visitor.send_to(text_data=text)
    assert (await visitor.frame())["ref"] == ref


async def test_an_owner_has_a_limited_number_of_unfinished_jobs(socket, settings):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UNFINISHED_PER_OWNER": 2}
    visitor = await socket()
    for _ in range(3):
        await visitor.send(**START)
    frames = [await visitor.frame() for _ in range(3)]
    assert [frame["type"] for frame in frames] == ["job", "job", "error"]
    assert frames[-1]["code"] == "too_many_jobs"
    assert "2" in frames[-1]["detail"]
    await (await socket()).send(**START)


async def test_the_limit_holds_for_starts_at_the_same_moment(socket, settings, owner):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "UNFINISHED_PER_OWNER": 3}
    pages = [await socket(client=owner) for _ in range(8)]
    for page in pages:
        await page.send(**START)
    seen, refused = [], 0
    for page in pages:
        told = set()
        while len(told - {None}) < 3 or not await page.receive_nothing():
            frame = await page.frame()
            refused += frame["type"] == "error"
            told.add(frame.get("task_id"))
        seen.append(told - {None})
    assert await count() == 3
    assert refused == 5
    assert all(told == seen[0] for told in seen), "a page was not told of a job that another one started"


async def test_an_owner_has_a_limited_number_of_sockets(socket, settings, owner):
    settings.LIVEJOBS = {**settings.LIVEJOBS, "SOCKETS_PER_OWNER": 2}
    first, _ = await socket(client=owner), await socket(client=owner)
    third = await socket(client=owner)
    assert (await third.frame())["code"] == "too_many_sockets"
    assert await third.closed() == 4429
    await first.disconnect()
    assert await (await socket(client=owner)).receive_nothing()


async def test_a_broker_out_of_reach_is_a_failure_that_says_so(socket, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionRefusedError

    monkeypatch.setattr("livejobs.task.JobTask.apply_async", refuse)
    visitor = await socket()
    await visitor.send(**START)
    frame = await visitor.until(state="FAILURE")
    assert "broker" in frame["error"]


async def test_a_job_that_a_worker_has_begun_goes_on_although_the_brokers_confirmation_was_lost(socket, monkeypatch):
    def deliver_then_fail(*args, task_id, **options):
        Job.objects.begin(task_id, None)
        raise ConnectionResetError

    monkeypatch.setattr("livejobs.task.JobTask.apply_async", deliver_then_fail)
    visitor = await socket()
    await visitor.send(**START)
    await visitor.until(state="PENDING")
    assert await visitor.receive_nothing()
    job = await Job.objects.aget()
    assert (job.state, job.attempt, job.sent, job.error) == ("STARTED", 1, True, "")


async def test_a_job_that_was_deleted_while_its_task_was_sent_is_gone(socket, monkeypatch):
    def delete_then_fail(*args, **options):
        Job.objects.all().delete()
        raise ConnectionResetError

    monkeypatch.setattr("livejobs.task.JobTask.apply_async", delete_then_fail)
    visitor = await socket()
    await visitor.send(**START)
    assert await visitor.until(type="gone")
    assert await visitor.receive_nothing()


async def test_a_fault_of_ours_is_answered_too(socket, monkeypatch):
    monkeypatch.setattr("livejobs.jobs.start", lambda *args: 1 / 0)
    visitor = await socket()
    await visitor.send(**START)
    assert (await visitor.frame())["code"] == "internal"


async def test_on_connecting_an_owner_sees_the_present_state_of_their_jobs(socket, owner, another_user):
    job = await make(owner.owner, state=State.SUCCESS)
    waiting = await make(owner.owner)
    await make("visitor-2")
    page = await socket(client=owner)
    assert [(await page.frame())["task_id"], (await page.frame())["task_id"]] == [str(job.pk), str(waiting.pk)]
    assert await page.receive_nothing()


async def test_a_second_page_sees_the_same_job_and_every_change(socket, owner, the_hub):
    first, second = await socket(client=owner), await socket(client=owner)
    await first.send(**START)
    frame = await first.frame()
    assert await second.frame() == frame
    job = await Job.objects.aget(pk=frame["task_id"])
    await publish(the_hub, job, state=State.PROGRESS, current=1, total=4, seq=9)
    assert await first.until(percent=25) == await second.until(percent=25)


async def test_a_reload_shows_what_was_last_shown_even_where_the_row_lags_behind(socket, owner, the_hub):
    job = await make(owner.owner)
    await publish(the_hub, job, state=State.PROGRESS, current=42, total=100, seq=9)
    assert (await (await socket(client=owner)).frame())["percent"] == 42


async def test_nobody_else_sees_anything(socket, owner, another_user, stranger, the_hub):
    others = [await socket(client=another_user), await socket(client=stranger), await socket()]
    page = await socket(client=owner)
    await page.send(**START)
    job = await Job.objects.aget(pk=(await page.frame())["task_id"])
    await publish(the_hub, job, state=State.PROGRESS, current=1, total=4, seq=9)
    await page.frame()
    for other in others:
        assert await other.receive_nothing()


async def test_two_sockets_without_a_session_are_two_owners(socket):
    one, two = await socket(), await socket()
    await one.send(**START)
    await one.frame()
    assert await two.receive_nothing()


async def test_nothing_is_kept_for_a_closed_socket(socket, the_hub):
    visitor = await socket()
    assert len(the_hub.rooms) == 1
    await visitor.disconnect()
    assert the_hub.rooms == {}


async def test_a_page_of_another_site_is_refused_and_the_log_says_so(the_hub, caplog):
    from conftest import Socket

    accepted, _ = await Socket(origin="https://evil.example").connect()
    assert not accepted
    assert "evil.example" in caplog.text


async def test_a_page_of_this_site_is_let_in(socket):
    await socket(origin="http://localhost:8000")


@pytest.mark.parametrize("path", ["/ws/jobs", "/ws/jobs/"])
async def test_the_trailing_slash_may_be_left_out(socket, owner, path):
    job = await make(owner.owner)
    for one in (path, path.replace("jobs", f"task_status/{job.pk}")):
        assert (await (await socket(one, client=owner)).frame())["task_id"] == str(job.pk)


@pytest.mark.parametrize(
    "path",
    ["/", "/ws/", "/ws/job/", "/ws/jobs/1/", "/ws/jobs//", "/ws/task_status/", "/ws/jobs/%0A", "/ws/%0AERROR%20x"],
)
async def test_an_unknown_path_is_closed_with_4404_and_one_line_in_the_log(socket, caplog, path):
    caplog.set_level("INFO", "livejobs")
    page = await socket(path)
    await page.send(**START)
    assert await page.closed() == 4404
    await page.disconnect()
    [record] = caplog.records
    assert record.exc_info is None
    assert "\n" not in record.getMessage()


async def test_a_frame_of_32_kib_is_taken(socket):
    visitor = await socket()
    text = json.dumps({**START, "padding": ""})
    await visitor.send_to(text_data=text.replace('"padding": ""', f'"padding": "{"x" * (32 * 1024 - len(text))}"'))
    assert (await visitor.frame())["state"] == "PENDING"


# ws/task_status/<task_id>/


async def test_a_job_is_followed_to_its_end_and_the_server_closes(socket, owner, the_hub):
    job = await make(owner.owner)
    page = await socket(f"/ws/task_status/{job.pk}/", client=owner)
    assert (await page.frame())["state"] == "PENDING"
    await publish(the_hub, job, state=State.PROGRESS, current=1, total=4, seq=9)
    assert (await page.frame())["percent"] == 25
    job.end(State.SUCCESS, result=7)
    await publish(the_hub, job)
    assert (await page.frame())["result"] == 7
    assert await page.closed() == 1000


async def test_a_job_that_has_ended_is_shown_once(socket, owner):
    job = await make(owner.owner, state=State.FAILURE)
    page = await socket(f"/ws/task_status/{job.pk}/", client=owner)
    assert (await page.frame())["state"] == "FAILURE"
    assert await page.closed() == 1000


async def test_only_that_job_is_shown(socket, owner, the_hub):
    job, other = await make(owner.owner), await make(owner.owner)
    page = await socket(f"/ws/task_status/{job.pk}/", client=owner)
    await page.frame()
    await publish(the_hub, other, seq=9)
    assert await page.receive_nothing()


@pytest.mark.parametrize("which", ["foreign", "unknown", "no uuid"])
@pytest.mark.parametrize("who", ["another_user", "stranger"])
async def test_a_foreign_job_and_an_unknown_one_cannot_be_told_apart(socket, owner, another_user, stranger, who, which):
    client = {"another_user": another_user, "stranger": stranger}[who]
    job = await make(owner.owner)
    task_id = {"foreign": job.pk, "unknown": uuid.uuid4(), "no uuid": "1"}[which]
    page = await socket(f"/ws/task_status/{task_id}/", client=client)
    assert await page.closed() == 4404


async def test_a_page_may_ask_whether_the_line_is_alive(socket):
    page = await socket()
    await page.send(type="ping")
    assert await page.frame() == {"type": "pong"}
