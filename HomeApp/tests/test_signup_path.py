"""Signing up for real: web process, worker, broker and mail server, each of its own."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from HomeApp import welcome_email
from testkit.mail_server import MailServer
from testkit.processes import Site
from tests.test_path import page, states, until_the_end

ADA = {"username": "ada", "email": "ada@example.org", "password": "the analytical engine"}


def sign_up(host, **changes) -> tuple[int, dict, str]:
    """Returns the status, the answer and the session's cookie."""
    body = json.dumps({**ADA, **changes}).encode()
    request = urllib.request.Request(f"http://{host}/api/users/", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            cookies = [cookie.partition(";")[0] for cookie in answer.headers.get_all("Set-Cookie", [])]
            return answer.status, json.load(answer), next(cookie for cookie in cookies if cookie.startswith("session"))
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused), ""


async def follow(host, task_id, cookie) -> tuple[list[dict], int]:
    """Returns what the job's socket shows until the server closes it, and the close code."""
    async with asyncio.timeout(180), page(host, cookie, f"/ws/task_status/{task_id}/") as socket:
        frames = await until_the_end(socket)
        await socket.wait_closed()
        return frames, socket.close_code


@pytest.fixture
def start(tmp_path):
    """Starts the site beside a mail server."""
    sites = []

    def start(mail_url, **environment):
        site = Site(tmp_path, EMAIL_URL=mail_url, EMAIL_TIMEOUT="1", SIGNUPS_PER_ADDRESS="100", **environment)
        sites.append(site)
        host = site.web()
        site.worker()
        return host

    yield start
    for site in sites:
        site.kill_all()


@pytest.mark.parametrize("first", ["451 Later", "silence"])
async def test_an_e_mail_that_the_server_does_not_take_at_once_is_tried_again(start, first):
    with MailServer(first, "250 OK") as server:
        host = start(server.url)
        status, answer, cookie = sign_up(host)
        assert status == 201
        frames, code = await follow(host, answer["task_id"], cookie)
    # The second attempt may begin at once, as the delay is random: then its snapshot replaces that of RETRY.
    assert states(frames)[-2:] == ["STARTED", "SUCCESS"]
    assert frames[-1]["attempt_reason"] == (welcome_email.SILENT if first == "silence" else welcome_email.BUSY)
    assert (frames[-1]["attempt"], frames[-1]["error"]) == (2, None)
    assert code == 1000
    assert server.asked == ["ada@example.org"] * 2
    assert len(server.taken) == 1


async def test_a_refused_e_mail_is_told_and_not_tried_again(start, amqp_url, redis_url, postgres_url):
    with MailServer("550 No such user here") as server:
        host = start(server.url, CELERY_BROKER_URL=amqp_url, REDIS_URL=redis_url, DATABASE_URL=postgres_url)
        _, answer, cookie = sign_up(host)
        frames, code = await follow(host, answer["task_id"], cookie)
    assert (frames[-1]["state"], frames[-1]["error"]) == ("FAILURE", welcome_email.REFUSED)
    assert "No such user here" not in json.dumps(frames)
    assert "RETRY" not in states(frames)
    assert code == 1000
    assert server.asked == ["ada@example.org"]


@pytest.mark.parametrize("same", ["username", "email"])
async def test_many_sign_ups_at_the_same_moment_make_one_user(start, amqp_url, redis_url, postgres_url, same):
    host = start("dummymail://", CELERY_BROKER_URL=amqp_url, REDIS_URL=redis_url, DATABASE_URL=postgres_url)

    def post(n):
        return sign_up(host, **({"username": f"ada{n}", "email": f"ada{n}@example.org"} | {same: ADA[same]}))

    answers = await asyncio.gather(*(asyncio.to_thread(post, n) for n in range(8)))
    assert sorted(status for status, _, _ in answers) == [201] + [400] * 7
    assert [set(answer["fields"]) for status, answer, _ in answers if status == 400] == [{same}] * 7


def test_behind_a_proxy_with_tls_the_pages_post_is_no_other_sites(tmp_path):
    site = Site(tmp_path, PROXIES="1")
    try:
        host = site.web()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        proxy = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
        with browser.open(urllib.request.Request(f"http://{host}/signup/", headers=proxy)) as page:
            token = page.headers.get_all("Set-Cookie")
        token = next(cookie for cookie in token if cookie.startswith("csrftoken=")).partition(";")[0].partition("=")[2]
        headers = {**proxy, "Content-Type": "application/json", "X-CSRFToken": token}
        headers |= {"Origin": f"https://{host}", "Referer": f"https://{host}/signup/"}
        post = urllib.request.Request(f"http://{host}/api/users/", json.dumps(ADA).encode(), headers)
        with browser.open(post) as answer:
            assert answer.status == 201
    finally:
        site.kill_all()
