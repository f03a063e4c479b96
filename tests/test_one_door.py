"""One door: what happens to jobs outside the web processes is told on every open page, while no worker runs too."""

import asyncio
import subprocess
import sys
import uuid

import pytest

from testkit.processes import ROOT, Site
from testkit.watcher import Watcher, visit

#: Seconds in which a page is told, on a machine that is busy with other things too.
PATIENCE = 90


@pytest.fixture(params=["folder", "redis", "rabbitmq"])
def site(request, tmp_path):
    """A site without a worker, on each broker."""
    environment = {}
    if request.param != "folder":
        broker = "amqp_url" if request.param == "rabbitmq" else "redis_broker_url"
        environment = {
            "CELERY_BROKER_URL": request.getfixturevalue(broker),
            "REDIS_URL": request.getfixturevalue("redis_url"),
            "DATABASE_URL": request.getfixturevalue("postgres_url"),
        }
    site = Site(tmp_path, **environment)
    yield site
    site.kill_all()


async def in_a_shell(site, code: str):
    """Run code in `manage.py shell`."""
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", f"from livejobs.models import Job; {code}"]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, env=site.environment, check=True)


async def test_what_a_shell_does_to_jobs_is_told_on_every_open_page(site):
    hosts = [await asyncio.to_thread(site.web)]
    if "REDIS_URL" in site.environment:
        hosts.append(await asyncio.to_thread(site.web))
    cookie = await asyncio.to_thread(visit, hosts[0])
    pages = [Watcher(f"page-{number}", "owner", [host], cookie) for number, host in enumerate(hosts)]
    watching = [asyncio.create_task(page.watch()) for page in pages]

    async def told(task_id, **fields):
        for page in pages:
            async with asyncio.timeout(PATIENCE):
                await page.until(
                    lambda page=page: any(
                        {"task_id": task_id, **fields}.items() <= one.frame.items() for one in page.told
                    )
                )

    try:
        async with asyncio.timeout(PATIENCE):
            for page in pages:
                await page.until(lambda page=page: page.connections)
            ref = await pages[0].start("count_primes", {"below": 1000})
            first = await pages[0].until(lambda: pages[0].task_of(ref))
        await told(first, state="PENDING")
        owner = f"Job.objects.get(pk={first!r}).owner"

        await in_a_shell(site, f"from livejobs import jobs; jobs.cancel({owner}, {first!r})")
        await told(first, state="REVOKED")

        again = str(uuid.uuid4())
        await in_a_shell(site, f"from livejobs import jobs; jobs.retry({owner}, {first!r}, {again!r})")
        await told((await of_ref(pages[0], again)), state="PENDING", retry_of=first)

        started = str(uuid.uuid4())
        await in_a_shell(site, f"from livejobs import jobs; jobs.start({owner}, 'count_primes', {{}}, {started!r})")
        await told((await of_ref(pages[0], started)), state="PENDING", ref=started)

        await in_a_shell(site, f"Job.objects.filter(pk={first!r}).delete()")
        await told(first, type="gone")
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def of_ref(page: Watcher, ref: str) -> str:
    """Return the id of the job that was started with a ref, once a page is told of it."""
    async with asyncio.timeout(PATIENCE):
        return await page.until(lambda: page.task_of(ref))
