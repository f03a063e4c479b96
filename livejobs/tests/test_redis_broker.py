"""Redis as the broker: what becomes of a message whose connection was closed."""

import logging

import pytest
from celery import current_app
from kombu import Connection, Consumer, Queue

from livejobs.relay import REDIS_OPTIONS

QUEUE = Queue("redis-broker-test")


@pytest.fixture
def connection(redis_broker_url):
    """A connection through the alias that the site's settings use."""
    assert current_app
    with Connection(redis_broker_url) as connection:
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


def test_a_relay_takes_up_what_a_dead_one_had_taken_the_oldest_first(redis_broker_url):
    replies = Queue("redis-broker-test-replies")
    with (
        Connection(redis_broker_url, transport_options=REDIS_OPTIONS) as dead,
        Connection(redis_broker_url, transport_options=REDIS_OPTIONS) as alive,
    ):
        taken = []
        with consumer(dead, replies, taken):
            for number in range(3):
                dead.Producer().publish(number, routing_key=replies.name, declare=[replies])
            while len(taken) < 3:
                dead.drain_events(timeout=5)
        channel = alive.default_channel
        channel.consume_alone(replies.name)
        taken_over = [replies(channel).get() for _ in range(3)]
        assert [message.payload for message in taken_over] == [0, 1, 2]
        for message in taken_over:
            message.ack()
        channel.consume_alone(replies.name)
        assert replies(channel).get() is None


def test_what_a_process_had_taken_without_noting_it_is_taken_again(redis_broker_url):
    """kombu's BRPOP loses what is on its way to a process that is killed, or on a line that is cut."""
    replies = Queue("redis-broker-test-alone")
    with (
        Connection(redis_broker_url, transport_options=REDIS_OPTIONS) as killed,
        Connection(redis_broker_url, transport_options=REDIS_OPTIONS) as alive,
    ):
        taken = []
        channel = killed.default_channel
        channel.consume_alone(replies.name)
        with consumer(killed, replies, taken):
            with pytest.raises(TimeoutError):
                killed.drain_events(timeout=0.2)  # it asks for the next message
            alive.Producer().publish("on its way", routing_key=replies.name, declare=[replies])
            channel.client.connection.disconnect()
            channel._in_poll = None
        taken_over = []
        alive.default_channel.consume_alone(replies.name)
        with consumer(alive, replies, taken_over):
            alive.drain_events(timeout=5)
            taken_over[-1].ack(multiple=True)
            alive.default_channel.forget_taken()
            alive.Producer().publish("the next one", routing_key=replies.name)
            alive.drain_events(timeout=5)
            taken_over[-1].ack(multiple=True)
            alive.default_channel.forget_taken()
        assert taken == []
        assert [message.payload for message in taken_over] == ["on its way", "the next one"]
        with alive.default_channel.conn_or_acquire() as client:
            assert client.llen(f"{replies.name}.taken") <= 1
