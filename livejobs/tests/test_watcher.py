"""One open socket: who it is, when it ends, and what it costs when it does not read."""

import asyncio
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from livejobs import hub as hub_module
from livejobs.hub import Hub
from livejobs.models import Job, State
from livejobs.owner import session_digest
from livejobs.snapshot import Snapshot
from livejobs.threads import in_thread
from livejobs.watcher import Watcher

pytestmark = pytest.mark.django_db(transaction=True)


async def a_user(name="ada"):
    return await in_thread(get_user_model().objects.create_user, name, f"{name}@example.org", "secret-Fjord-17")


async def make(owner) -> Job:
    return await Job.objects.acreate(owner=owner, kind="count_primes", title="Primes")


async def token_of(user) -> str:
    return str(await in_thread(AccessToken.for_user, user))


async def test_a_token_shows_its_users_jobs_and_nobody_elses(socket):
    ada, bob = await a_user("ada"), await a_user("bob")
    job = await make(f"user-{ada.pk}")
    page = await socket(token=await token_of(ada))
    assert (await page.frame())["task_id"] == str(job.pk)
    assert await (await socket(token=await token_of(bob))).receive_nothing()


async def test_a_token_opens_the_socket_of_its_users_job_alone(socket):
    ada, bob = await a_user("ada"), await a_user("bob")
    path = f"/ws/task_status/{(await make(f'user-{ada.pk}')).pk}/"
    assert (await (await socket(path, token=await token_of(ada))).frame())["state"] == "PENDING"
    assert await (await socket(path, token=await token_of(bob))).closed() == 4404


async def test_a_worthless_token_is_closed_with_4401(socket):
    user = await a_user()
    expired = AccessToken.for_user(user)
    expired.set_exp(lifetime=-timedelta(seconds=1))
    refresh = await in_thread(RefreshToken.for_user, user)
    for token in ("nonsense", str(expired), str(refresh), (await token_of(user))[:-2]):
        for path in ("/ws/jobs/", f"/ws/task_status/{(await make(f'user-{user.pk}')).pk}/"):
            assert await (await socket(path, token=token)).closed() == 4401


async def test_the_token_of_a_deleted_user_is_worthless(socket):
    user = await a_user()
    token = await token_of(user)
    await in_thread(user.delete)
    assert await (await socket(token=token)).closed() == 4401


async def test_the_socket_ends_with_its_token(socket, monkeypatch):
    monkeypatch.setattr("livejobs.authority.CHECK_EVERY", 0.05)
    user = await a_user()
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=timedelta(seconds=2))
    assert await (await socket(token=str(token))).closed() == 4401


async def test_logging_out_closes_the_sockets_of_that_session_alone(socket):
    user = await a_user()
    here, elsewhere = Client(), Client()
    for client in (here, elsewhere):
        await in_thread(client.force_login, user)
    job = await make(f"user-{user.pk}")
    opened = []
    for path, client in (("/ws/jobs/", here), (f"/ws/task_status/{job.pk}/", here), ("/ws/jobs/", elsewhere)):
        opened.append(await socket(path, client=client))
        await opened[-1].frame()  # before the next one reads the row, and tells of it here
    *closing, staying = opened
    await asyncio.to_thread(here.post, "/logout/")
    for one in closing:
        assert await one.closed() == 4401
    await staying.send(type="ping")
    assert await staying.frame() == {"type": "pong"}


async def test_a_log_out_is_told_to_the_other_processes(the_hub):
    class Seen(Watcher):
        signed_out = asyncio.Event()

        async def sign_out(self):
            self.signed_out.set()

    other, watcher = Hub(), Seen()
    await other.open()
    watcher.session = session_digest("a key")
    other.join("user-1", watcher)
    the_hub.everywhere("end_session", session_digest("a key"))
    async with asyncio.timeout(30):
        await watcher.signed_out.wait()
    await other.close()


async def test_who_logs_in_keeps_the_jobs_started_before_and_their_news(socket, owner, relay, the_hub, monkeypatch):
    job = await make(owner.owner)
    monkeypatch.setattr(the_hub, "on_adopted", relay.adopt)
    relay.cache.jobs[str(job.pk)] = await Job.objects.aget(pk=job.pk)
    user = await a_user()
    await asyncio.to_thread(owner.post, "/login/", {"username": "ada", "password": "secret-Fjord-17"})
    page = await socket(client=owner)
    assert (await page.frame())["task_id"] == str(job.pk)
    assert relay.cache.jobs[str(job.pk)].owner == f"user-{user.pk}"
    assert not await Job.objects.filter(owner=owner.owner).aexists()


async def test_who_logs_in_elsewhere_takes_nobody_elses_jobs(owner):
    job = await make(owner.owner)
    await a_user()
    await asyncio.to_thread(Client().post, "/login/", {"username": "ada", "password": "secret-Fjord-17"})
    assert (await Job.objects.aget(pk=job.pk)).owner == owner.owner


@pytest.fixture
def impatient(monkeypatch):
    """A hub that cuts those who do not read after a moment."""
    monkeypatch.setattr(hub_module, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(hub_module, "PATIENCE", 0.2)


class Stuck:
    """A socket whose other side does not read: the first frame is never written."""

    def __init__(self, hub):
        self.watcher, self.hub, self.never = Watcher(), hub, asyncio.Event()
        self.incoming = asyncio.Queue()
        self.task = asyncio.create_task(self.watcher({"type": "websocket"}, self.incoming.get, self.send))

    async def send(self, message):
        await self.never.wait()


async def test_who_does_not_read_is_cut_and_the_others_notice_nothing(impatient, the_hub, socket, owner):
    stuck = Stuck(the_hub)
    await asyncio.sleep(0)
    page = await socket(client=owner)
    stuck.watcher.join(owner.owner)
    job = await make(owner.owner)
    for seq in range(1, 51):
        job.state, job.seq, job.current, job.total = State.PROGRESS, seq, seq, 50
        the_hub.publish([Snapshot.of(job)])
    assert len(stuck.watcher.unsent) <= 1
    await page.until(percent=100)
    async with asyncio.timeout(30):
        await stuck.task  # it ends, and raises nothing
    assert stuck.watcher not in the_hub.rooms[owner.owner]
    job.seq += 1
    job.current = 0
    the_hub.publish([Snapshot.of(job)])
    await page.until(percent=0)


async def test_who_reads_is_not_cut(impatient, the_hub, socket, owner):
    page = await socket(client=owner)
    await make(owner.owner)
    await asyncio.sleep(3 * hub_module.PATIENCE)
    await page.send(type="ping")
    assert await page.until(type="pong")


async def test_after_an_outage_of_the_channel_layer_what_was_missed_is_made_good(the_hub, socket, owner):
    page = await socket(client=owner)
    job = await make(owner.owner)  # by another process, whose message is lost
    the_hub.layer.unsure = True
    the_hub.layer.failed.set()
    assert (await page.frame())["task_id"] == str(job.pk)
