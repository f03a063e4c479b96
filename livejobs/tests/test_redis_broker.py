"""Redis as the broker: what becomes of a message whose connection was closed."""

import contextlib
import logging

import pytest
import redis
from celery import current_app
from kombu import Connection, Consumer, Queue

from livejobs import sweep
from livejobs.under.drain import drain

QUEUE = Queue("redis-broker-test")
#: As the site's settings have it: kombu adds the prefix to the keys of some commands and not of others.
PREFIXED = {"global_keyprefix": "a-deployment."}


@pytest.fixture
def connection(redis_broker_url):
    """A connection through the alias that the site's settings use."""
    assert current_app
    with Connection(redis_broker_url, transport_options=PREFIXED) as connection:
        yield connection


def consumer(connection, queue, taken):
    return Consumer(connection, [queue], on_message=taken.append, prefetch_count=9)


def take(connection):
    taken = []
    with consumer(connection, QUEUE, taken):
        connection.Producer().publish({}, routing_key=QUEUE.name, declare=[QUEUE])
        while not taken:
            connection.drain_events(timeout=5)
    return taken[0]


def test_a_message_that_is_acknowledged_after_its_connection_was_closed_is_noted_and_nothing_ends(connection, caplog):
    message = take(connection)
    message.channel.connection.client = None  # as kombu leaves it after Redis was away
    message.channel._pool = None
    message.ack_log_error(logging.getLogger("test"), connection.connection_errors)
    assert "The connection of this channel was closed." in caplog.text


def test_a_channel_that_cannot_give_its_messages_back_is_closed_all_the_same(connection):
    message = take(connection)
    message.channel.connection.client = None
    message.channel._pool = None
    connection.maybe_close_channel(message.channel)


def test_a_queue_whose_key_has_a_prefix_is_found(connection, replies):
    """Otherwise the sweep takes all tasks that wait for lost."""
    channel = connection.default_channel
    with pytest.raises(connection.channel_errors):
        channel.queue_declare(replies.name, passive=True)
    publish(channel, replies, *range(3))
    assert channel.queue_declare(replies.name, passive=True).message_count == 3
    assert not sweep.is_empty(connection, replies.name)
    replies(channel).purge()
    assert sweep.is_empty(connection, replies.name)


@pytest.fixture
def replies(redis_broker_url):
    """A queue of its own, whose consumer says that it is the only one."""
    queue = Queue("redis-broker-test-replies")
    with redis.from_url(redis_broker_url) as client:
        yield queue
        left = client.keys(f"*{queue.name}*")
        if left:
            client.delete(*left)
    assert left == [], "what is acknowledged is not kept"


@pytest.fixture
def relay_channel(redis_broker_url, replies):
    """Opens the channels of relays. Each has what it took in `messages`."""
    with contextlib.ExitStack() as stack:

        def open_channel():
            connection = stack.enter_context(Connection(redis_broker_url, transport_options=PREFIXED))
            channel = connection.default_channel
            channel.consume_alone(replies.name)
            channel.messages = []
            stack.enter_context(Consumer(connection, [replies], on_message=channel.messages.append, no_ack=True))
            return channel

        yield open_channel


def publish(channel, queue, *bodies):
    for body in bodies:
        channel.connection.client.Producer().publish(body, routing_key=queue.name, declare=[queue])


def drained(channel, count):
    while len(channel.messages) < count:
        channel.connection.client.drain_events(timeout=5)
    return [message.payload for message in channel.messages]


def cut_with_a_message_on_its_way(channel, replies, body, connection):
    """Let Redis move a message for a channel that is gone before it has read it."""
    with pytest.raises(TimeoutError):
        channel.connection.client.drain_events(timeout=0.2)  # it asks for the next message
    publish(connection.default_channel, replies, body)
    channel.client.connection.disconnect()
    channel._in_poll = None


def test_a_relay_takes_up_what_a_dead_one_had_taken_the_oldest_first(relay_channel, replies, connection):
    dead = relay_channel()
    publish(connection.default_channel, replies, *range(4))
    assert drained(dead, 4) == [0, 1, 2, 3]
    dead.acknowledge_taken(1)
    alive = relay_channel()
    assert drained(alive, 3) == [1, 2, 3]
    alive.acknowledge_taken(3)


def test_what_was_on_its_way_to_a_dead_relay_is_taken_again(relay_channel, replies, connection):
    """kombu's BRPOP loses what is on its way to a process that is killed, or on a line that is cut."""
    cut_with_a_message_on_its_way(relay_channel(), replies, "on its way", connection)
    alive = relay_channel()
    assert drained(alive, 1) == ["on its way"]
    alive.acknowledge_taken(1)


def test_what_redis_gives_a_dead_relay_after_another_has_taken_over_is_not_lost(relay_channel, replies, connection):
    """Redis does not know at once that a line is cut: the dead relay's BLMOVE still waits there."""
    dead = relay_channel()
    alive = relay_channel()
    cut_with_a_message_on_its_way(dead, replies, "for the dead one", connection)
    publish(connection.default_channel, replies, "for the living one")
    assert drained(alive, 1) == ["for the living one"]
    alive.restore_abandoned()
    alive.acknowledge_taken(1)
    assert not alive.settled, "the sweep must not take a job for lost whose end may be the message"
    assert len(alive.messages) == 1, "one look does not tell what is abandoned from what is on its way"
    alive.restore_abandoned()
    assert drained(alive, 2)[1] == "for the dead one"
    alive.acknowledge_taken(1)
    alive.restore_abandoned()
    assert alive.settled


def test_all_that_waits_is_taken_in_one_go_in_order_and_no_more_than_a_batch(relay_channel, replies, connection):
    """Taken one by one, a busy relay fell seconds behind."""
    channel = relay_channel()
    publish(connection.default_channel, replies, *range(250))
    drain(channel.connection.client, channel.messages, 200, timeout=5)
    assert [message.payload for message in channel.messages] == list(range(200))
    channel.acknowledge_taken(200)
    channel.messages.clear()
    drain(channel.connection.client, channel.messages, 200, timeout=5)
    assert [message.payload for message in channel.messages] == list(range(200, 250))
    channel.acknowledge_taken(50)


def test_a_relay_that_has_lost_its_lease_gives_back_what_it_took_meanwhile(relay_channel, replies, connection):
    slow, other = relay_channel(), relay_channel()
    publish(connection.default_channel, replies, 1, 2)
    assert drained(slow, 2) == [1, 2]
    slow.give_back()
    assert drained(other, 2) == [1, 2]
    other.acknowledge_taken(2)


def test_what_is_read_and_not_acknowledged_is_not_abandoned(relay_channel, replies, connection):
    channel = relay_channel()
    publish(connection.default_channel, replies, "one")
    drained(channel, 1)
    for _ in range(3):
        channel.restore_abandoned()
    with pytest.raises(TimeoutError):
        channel.connection.client.drain_events(timeout=0.2)
    channel.acknowledge_taken(1)


def test_a_message_that_cannot_be_read_is_dropped_and_the_next_one_comes(relay_channel, replies, connection, caplog):
    channel = relay_channel()
    with channel.conn_or_acquire() as client:
        client.lpush(replies.name, "poison", "[1]", "{}")
    publish(connection.default_channel, replies, "good")
    assert drained(channel, 1) == ["good"]
    assert caplog.text.count("A message that cannot be read is dropped") == 3
    channel.acknowledge_taken(1)
    assert drained(relay_channel(), 0) == []
