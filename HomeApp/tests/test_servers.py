"""Both servers, as they may stand in production: behind TLS of their own, or on a Unix socket behind a proxy."""

import asyncio
import contextlib
import json
import socket
import ssl
import uuid

import pytest
import trustme
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from HomeApp.tests.processes import Site, free_port, wait_until

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
    async with asyncio.timeout(30), page() as line:
        await line.send(json.dumps({"type": "start", "kind": "count_primes", "params": {}, "ref": str(uuid.uuid4())}))
        frame = json.loads(await line.recv())
        assert frame["state"] == "PENDING"
        await line.send(json.dumps({"type": "cancel", "task_id": frame["task_id"]}))
        while frame["state"] != "REVOKED":
            frame = json.loads(await line.recv())
        await line.send('{"type":"ping"}')
        assert await line.recv() == '{"type":"pong"}'
    async with asyncio.timeout(30), page("/ws/task_status/1/") as line:
        with pytest.raises(ConnectionClosed) as closed:
            await line.recv()
        assert closed.value.rcvd.code == 4404
