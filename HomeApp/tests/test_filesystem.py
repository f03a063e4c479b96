"""The broker in a folder: nothing is lost and nothing overtakes, while one writes and another reads."""

import threading

from celery import current_app
from kombu import Connection, Consumer, Exchange, Queue

QUEUE = Queue("numbers", Exchange(""), routing_key="numbers")
COUNT = 500


def options(folder) -> dict:
    folders = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], str(folder))
    return {**folders, "polling_interval": 0.001}


def connect(folder) -> Connection:
    current_app.finalize()  # the Celery application brings the mended transport
    return Connection("filesystem://localhost//", transport_options=options(folder))


def test_every_message_comes_whole_and_in_order(tmp_path):
    def write():
        with connect(tmp_path) as connection:
            for number in range(COUNT):
                connection.Producer().publish({"number": number, "weight": "x" * 1000}, routing_key=QUEUE.name)

    read = []
    writer = threading.Thread(target=write)
    with connect(tmp_path) as connection:
        QUEUE(connection.default_channel).declare()
        with Consumer(connection, [QUEUE], on_message=lambda message: read.append(message.payload), no_ack=True):
            writer.start()
            while len(read) < COUNT:
                connection.drain_events(timeout=5)
    writer.join()
    assert [message["number"] for message in read] == list(range(COUNT))
    assert not list(tmp_path.glob("*.msg"))


def test_many_messages_are_acknowledged_at_once(tmp_path):
    with connect(tmp_path) as connection:
        channel = connection.default_channel
        QUEUE(channel).declare()
        for number in range(5):
            connection.Producer().publish({"number": number}, routing_key=QUEUE.name)
        messages = []
        with Consumer(channel, [QUEUE], on_message=messages.append):
            while len(messages) < 5:
                connection.drain_events(timeout=5)
            messages[3].ack(multiple=True)
    with connect(tmp_path) as connection:
        left = QUEUE(connection.default_channel).get()
        assert left.payload == {"number": 4}
        assert QUEUE(connection.default_channel).get() is None


def test_what_is_given_back_keeps_its_place(tmp_path):
    with connect(tmp_path) as connection:
        QUEUE(connection.default_channel).declare()
        for number in range(3):
            connection.Producer().publish({"number": number}, routing_key=QUEUE.name)
        QUEUE(connection.default_channel).get().requeue()
        QUEUE(connection.default_channel).get()  # not acknowledged when the connection closes
    with connect(tmp_path) as connection:
        messages = [QUEUE(connection.default_channel).get() for _ in range(3)]
        assert [message.payload["number"] for message in messages] == [0, 1, 2]
        for message in messages:
            message.ack()
    assert not list(tmp_path.glob("**/*.msg"))
