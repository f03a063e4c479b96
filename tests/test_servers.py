"""Both servers, as they may stand in production: with TLS of their own, or on a Unix socket behind a proxy.

And what both tell of a connection that was lost.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
import ssl
import struct
import uuid

import pytest
import trustme
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from testkit.processes import Site, free_port, healthy, wait_until
from testkit.watcher import visit

APPLICATION = "CeleryProgressbar.asgi:application"
SERVERS = {
    ("daphne", "TLS"): ["-e", "ssl:{port}:privateKey={folder}/key.pem:certKey={folder}/cert.pem"],
    ("daphne", "a Unix socket"): ["-u", "{folder}/socket"],
    ("uvicorn", "TLS"): ["--port", "{port}", "--ssl-keyfile={folder}/key.pem", "--ssl-certfile={folder}/cert.pem"],
    ("uvicorn", "a Unix socket"): ["--uds", "{folder}/socket"],
}


@pytest.fixture(params=SERVERS, ids=" over ".join)
def page(request, tmp_path):
    """Opens a page's socket."""
    (server, way), port = request.param, free_port()
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    address = ("127.0.0.1", port) if way == "TLS" else str(tmp_path / "socket")

    def listening():
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET if way == "TLS" else socket.AF_UNIX) as probe:
            return probe.connect(address) is None

    def open_page(path="/ws/jobs/", **options):
        if way == "TLS":
            return connect(f"wss://127.0.0.1:{port}{path}", ssl=context, **options)
        return unix_connect(address, f"ws://127.0.0.1{path}", **options)

    site = Site(tmp_path)
    options = [option.format(port=port, folder=tmp_path) for option in SERVERS[request.param]]
    site.start(server, "-m", server, *options, APPLICATION)
    wait_until(listening, f"{server} listens; see {tmp_path}")
    yield open_page
    site.kill_all()


async def test_a_job_is_told_from_its_start_to_its_end(page):
    async with asyncio.timeout(180), page() as line:
        await line.send(json.dumps({"type": "start", "kind": "count_primes", "params": {}, "ref": str(uuid.uuid4())}))
        frame = json.loads(await line.recv())
        assert frame["state"] == "PENDING"
        await line.send(json.dumps({"type": "cancel", "task_id": frame["task_id"]}))
        while frame["state"] != "REVOKED":
            frame = json.loads(await line.recv())
        await line.send('{"type":"ping"}')
        assert await line.recv() == '{"type":"pong"}'
    async with asyncio.timeout(180), page("/ws/task_status/1/") as line:
        with pytest.raises(ConnectionClosed) as closed:
            await line.recv()
        assert closed.value.rcvd.code == 4404


#: Closes with a reset instead of a handshake. Source: socket(7), SO_LINGER.
RESET = struct.pack("ii", 1, 0)
PLAIN = {
    "daphne": ["-p", "{port}"],
    "uvicorn": ["--port", "{port}", "--ws", "websockets-sansio"],
}


@pytest.fixture(params=PLAIN)
def web(request, tmp_path):
    """A web process that can be stopped, and its address."""
    site, port = Site(tmp_path), free_port()
    options = [option.format(port=port) for option in PLAIN[request.param]]
    site.process = site.start(request.param, "-m", request.param, *options, APPLICATION)
    site.host = f"127.0.0.1:{port}"
    wait_until(lambda: healthy(site.host), f"{request.param} answers; see {tmp_path}")
    yield site
    site.kill_all()


async def test_a_frame_of_a_connection_that_was_lost_starts_nothing(web):
    """A stopped web process has it in its buffer, and the page has sent it again to another one meanwhile."""
    cookie = await asyncio.to_thread(visit, web.host)
    refs = [str(uuid.uuid4()) for _ in range(3)]
    starts = [json.dumps({"type": "start", "kind": "count_primes", "params": {}, "ref": ref}) for ref in refs]

    def page():
        return connect(f"ws://{web.host}/ws/jobs/", additional_headers={"Cookie": cookie}, proxy=None)

    async with asyncio.timeout(180):
        lost, left = await page(), await page()
        web.process.send_signal(signal.SIGSTOP)
        await lost.send(starts[0])
        await left.send(starts[1])
        lost.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        lost.transport.abort()
        closing = asyncio.create_task(left.close())  # a program that does not wait for the answer has its job
        await asyncio.sleep(0)
        web.process.send_signal(signal.SIGCONT)
        await closing
        async with page() as line:
            await line.send(starts[2])
            while json.loads(await line.recv())["ref"] != refs[2]:
                pass

    def started() -> set[str]:
        path = f"{web.environment['DATA_DIR']}/db.sqlite3"
        with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
            return {str(uuid.UUID(ref)) for (ref,) in database.execute('SELECT ref FROM "livejobs_job"')}

    # The sockets are served side by side: the answer to the last one may come before the row of the one that has left.
    await asyncio.to_thread(wait_until, lambda: started() >= set(refs[1:]), "both starts have a row")
    assert started() == set(refs[1:])
