"""What the result backend does when the broker does not take a reply; no broker takes part."""

import uuid
from types import SimpleNamespace

import pytest
from amqp.exceptions import MessageNacked, PreconditionFailed, RecoverableConnectionError
from celery import current_app
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as ResultTimeout
from celery.states import EXCEPTION_STATES, READY_STATES
from kombu.exceptions import ChannelError, OperationalError
from redis import RedisError

from livejobs import backend as backend_module
from livejobs.backend import REPLY_QUEUE, ReplyBackend
from livejobs.jobs import kinds
from livejobs.models import Job, State
from livejobs.task import JobError, JobTask

REQUEST = SimpleNamespace(attempt=2, latest={"current": 3, "total": 4, "description": ""})


@pytest.fixture
def broker(monkeypatch):
    """A broker that raises what it is given to, and then takes what it is told; the seconds slept are noted."""
    broker = SimpleNamespace(problems=[], taken=[], slept=[])

    def publish(producer, reply, **options):
        if broker.problems:
            raise broker.problems.pop(0)
        broker.taken.append((reply, options))

    monkeypatch.setattr("kombu.messaging.Producer.publish", publish)
    monkeypatch.setattr(backend_module.time, "sleep", broker.slept.append)
    return broker


def reply(state, result=None):
    ReplyBackend(current_app._get_current_object()).store_result("1", result, state, request=REQUEST)


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "RETRY"])
def test_an_end_is_told_until_the_broker_has_taken_it(broker, state):
    broker.problems = [OperationalError(), RecoverableConnectionError(), ConnectionResetError(), MessageNacked()]
    reply(state, result=ValueError() if state in EXCEPTION_STATES else None)
    [(body, options)] = broker.taken
    assert (body["status"], body["attempt"], body["latest"]) == (state, 2, REQUEST.latest)
    assert options["delivery_mode"] == 2
    assert broker.slept == [backend_module.RETRY_AFTER] * 4


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS"])
def test_news_on_the_way_is_told_once(broker, state):
    broker.problems = [ConnectionResetError()]
    with pytest.raises(ConnectionResetError):
        reply(state, {})
    assert (broker.taken, broker.slept) == ([], [])


def test_brokers_of_every_kind_are_waited_for(broker, monkeypatch):
    monkeypatch.setattr("kombu.Connection.connection_errors", property(lambda connection: (RedisError,)))
    broker.problems = [RedisError("redis is away")]
    with pytest.raises(OperationalError):
        reply("PROGRESS", {})
    broker.problems = [RedisError("redis is away"), ChannelError("the disk is full")]
    reply("SUCCESS", 1)
    assert [body["result"] for body, _ in broker.taken] == [1]


def test_an_end_that_no_broker_will_ever_take_is_an_error(broker):
    broker.problems = [PreconditionFailed("The message is larger than the broker's limit.")]
    with pytest.raises(PreconditionFailed):
        reply("SUCCESS", "x" * 1000)
    assert (broker.taken, broker.slept) == ([], [])


@pytest.fixture
def backend() -> ReplyBackend:
    return ReplyBackend(current_app._get_current_object())


@pytest.mark.django_db
def test_celery_reads_what_a_job_has_come_to_from_its_row(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("the reply queue is the relay's")

    monkeypatch.setattr("kombu.Connection.channel", refuse)
    job = Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")
    result = kinds()["count_primes"].AsyncResult(str(job.pk))
    assert (result.state, result.ready()) == ("PENDING", False)
    with pytest.raises(ResultTimeout):
        result.get(timeout=0)
    Job.objects.update(state=State.PROGRESS, attempt=1)
    assert result.state == "PROGRESS"
    job.end(State.SUCCESS, result={"primes": 4})
    job.save_end()
    assert (result.get(timeout=0), result.state) == ({"primes": 4}, "SUCCESS")


@pytest.mark.django_db
@pytest.mark.parametrize(("state", "raised"), [(State.FAILURE, JobError), (State.REVOKED, TaskRevokedError)])
def test_celery_raises_what_has_ended_a_job(state, raised):
    job = Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")
    job.end(state, error="The file is empty.")
    job.save_end()
    result = kinds()["count_primes"].AsyncResult(str(job.pk))
    with pytest.raises(raised):
        result.get(timeout=0)
    assert result.failed() == (state == State.FAILURE)


@pytest.mark.django_db
@pytest.mark.parametrize("task_id", ["nightly", "", "0b0ae3a6-9a0c-4c9b-8d5f-0f6b0f3b8a11"])
def test_celery_knows_of_no_job_where_there_is_none(backend, task_id):
    assert backend.get_task_meta(task_id)["status"] == "PENDING"


def test_a_worker_leaves_a_job_that_it_does_not_run_to_the_one_that_does(backend):
    assert backend.get_state(str(uuid.uuid4())) not in READY_STATES | {"PENDING", "RECEIVED", "RETRY", "REJECTED"}


def test_the_projects_other_tasks_keep_its_backend():
    task = current_app.tasks["HomeApp.tasks.delete_old_files"]
    assert task.backend is current_app.backend
    assert not isinstance(task.backend, ReplyBackend)
    assert isinstance(kinds()["count_primes"].backend, ReplyBackend)


def test_the_projects_backend_takes_no_part_in_a_job(broker, monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("a backend such as Redis would wait for the job's result from now on")

    monkeypatch.setattr(type(current_app.backend), "on_task_call", refuse)
    kinds()["count_primes"].apply_async(kwargs={"below": 1000}, task_id=str(uuid.uuid4()))
    [(_, options)] = broker.taken
    assert options["headers"]["task"] == "HomeApp.tasks.count_primes"


def test_sending_a_task_declares_the_reply_queue_and_no_other(broker, monkeypatch):
    declared = []
    monkeypatch.setattr(backend_module, "maybe_declare", lambda queue, **how: declared.append(queue.name))
    kinds()["count_primes"].apply_async(kwargs={"below": 1000}, task_id=str(uuid.uuid4()))
    assert declared == [REPLY_QUEUE.name]


def test_the_projects_defaults_do_not_change_what_the_engine_needs_of_its_tasks(monkeypatch):
    changed = {
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_acks_on_failure_or_timeout": False,
        "task_ignore_result": True,
        "task_track_started": True,
        "task_serializer": "pickle",
    }
    for name, value in changed.items():
        monkeypatch.setitem(current_app.conf, name, value)

    @current_app.task(base=JobTask, name=f"test-{uuid.uuid4()}")
    def task():
        pass

    assert (task.acks_late, task.reject_on_worker_lost, task.acks_on_failure, task.acks_on_timeout) == (True,) * 4
    assert (task.ignore_result, task.track_started, task.serializer) == (False, False, "json")
