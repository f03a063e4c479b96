"""What the result backend does when the broker does not take a reply; no broker takes part."""

from types import SimpleNamespace

import pytest
from amqp.exceptions import MessageNacked, PreconditionFailed, RecoverableConnectionError
from celery import current_app
from celery.states import EXCEPTION_STATES
from kombu.exceptions import OperationalError

from HomeApp import reply_queue
from HomeApp.reply_queue import REPLY_QUEUE, ReplyBackend

REQUEST = SimpleNamespace(
    reply_to=REPLY_QUEUE.name, correlation_id="1", attempt=2, latest={"current": 3, "total": 4, "description": ""}
)


@pytest.fixture
def broker(monkeypatch):
    """A broker that raises what it is given to, and then takes what it is told; the seconds slept are noted."""
    broker = SimpleNamespace(problems=[], taken=[], slept=[])

    def publish(producer, reply, **options):
        if broker.problems:
            raise broker.problems.pop(0)
        broker.taken.append((reply, options))

    monkeypatch.setattr("kombu.messaging.Producer.publish", publish)
    monkeypatch.setattr(reply_queue.time, "sleep", broker.slept.append)
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
    assert broker.slept == [reply_queue.RETRY_AFTER] * 4


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS"])
def test_news_on_the_way_is_told_once(broker, state):
    broker.problems = [ConnectionResetError()]
    with pytest.raises(ConnectionResetError):
        reply(state, {})
    assert (broker.taken, broker.slept) == ([], [])


def test_an_end_that_no_broker_will_ever_take_is_an_error(broker):
    broker.problems = [PreconditionFailed("The message is larger than the broker's limit.")]
    with pytest.raises(PreconditionFailed):
        reply("SUCCESS", "x" * 1000)
    assert (broker.taken, broker.slept) == ([], [])
