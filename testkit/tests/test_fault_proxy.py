"""The fault proxy does to connections what it says, before a service that answers each piece with the same."""

import gc
import socket
import socketserver
import threading
import time
import warnings

import pytest

from testkit.fault_proxy import RESET_ON_CLOSE, FaultProxy, reserve_port


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(65_536):
            self.request.sendall(piece)


class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing: connections are broken here on purpose."""


@pytest.fixture
def proxy():
    with EchoServer(("127.0.0.1", 0), Echo) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        proxy = FaultProxy(*service.server_address)
        yield proxy
        proxy.close()
        service.shutdown()


@pytest.fixture
def connect(proxy):
    opened = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=5))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def answers(connection, question=b"hello") -> bool:
    connection.sendall(question)
    answer = b""
    while len(answer) < len(question):
        answer += connection.recv(len(question) - len(answer))
    return answer == question


def silent(connection, seconds=0.2) -> bool:
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def test_it_carries_what_both_sides_say(connect):
    one, other = connect(), connect()
    assert answers(one, b"x" * 1_000_000)
    assert answers(other)


def test_a_farewell_comes_after_all_that_was_said(connect):
    connection = connect()
    connection.sendall(b"x" * 1_000_000)
    connection.shutdown(socket.SHUT_WR)
    received = 0
    while piece := connection.recv(65_536):
        received += len(piece)
    assert received == 1_000_000


def test_a_delayed_piece_waits_both_ways(proxy, connect):
    connection = connect()
    assert answers(connection)
    proxy.delay(0.1)
    before = time.monotonic()
    assert answers(connection)
    assert time.monotonic() - before >= 0.2
    proxy.carry()
    assert answers(connection)


def test_a_reset_breaks_connections_and_refuses_new_ones(proxy, connect):
    connection = connect()
    assert answers(connection)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert proxy.connections == 0
    proxy.carry()
    assert answers(connect())


def test_half_open_connections_are_silent_and_then_reset(proxy, connect):
    before = connect()
    assert answers(before)
    proxy.half_open()
    during = connect()
    for connection in (before, during):
        connection.sendall(b"hello")
        assert silent(connection)
    assert proxy.connections == 2
    proxy.carry()
    for connection in (before, during):
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert answers(connect())


def test_a_half_open_connection_is_not_told_that_the_other_side_has_gone(proxy, connect):
    connection = connect()
    assert answers(connection)
    proxy.half_open()
    connection.shutdown(socket.SHUT_WR)
    assert silent(connection)


def test_it_is_silent_about_a_reset_too_and_can_be_closed_after_it():
    """One direction waited for ever after the other one had failed, so that the proxy could not be closed."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        proxy = FaultProxy(*service.getsockname())
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
            there, _ = service.accept()
            proxy.half_open()
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            there.close()
            assert silent(connection)
            proxy.close()


def test_it_resets_what_asks_to_become_a_websocket_and_carries_the_rest(proxy, connect):
    proxy.refuse_sockets()
    asking, plain = connect(), connect()
    asking.sendall(b"GET /ws/jobs/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        asking.recv(1)
    assert answers(plain, b"GET / HTTP/1.1\r\n\r\n")


def test_a_service_that_is_not_there_ends_the_connection():
    nobody = reserve_port()
    proxy = FaultProxy(*nobody.getsockname())
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        connection.recv(1)  # it may have been reset before it was known to be open
    proxy.close()
    nobody.close()


def test_a_reserved_port_refuses_until_somebody_listens_to_it():
    reserved = reserve_port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(reserved.getsockname())
    with EchoServer(reserved.getsockname(), Echo), socket.create_connection(reserved.getsockname()):
        pass
    reserved.close()


def test_a_connection_that_has_just_come_is_closed_with_the_proxy(proxy):
    """One whose task had not begun was passed over, and its transport was found by a later test."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(20):
            closing = FaultProxy(*proxy.service)
            come = [socket.create_connection(("127.0.0.1", closing.port), timeout=5) for _ in range(5)]
            closing.close()
            for one in come:
                one.close()
        gc.collect()
    assert [str(one.message) for one in found if one.category is ResourceWarning] == []
