"""The wheel in a project that has Celery already: its own parts go on as before, and its page has a live bar."""

import json
import re
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from testkit.browser import open_page
from testkit.host import API, EDITS, FOLDER_BROKER, Host, installed
from testkit.processes import wait_until

__all__ = ["installed"]  # a fixture


#: A percentage in the midst of a job. The page's Content-Security-Policy forbids to evaluate a condition in it.
HALF = re.compile(r"^[3-9]\d%$")


@pytest.fixture
def services(request, tmp_path):
    """The URLs of a broker, a result backend and a channel layer."""
    ask = request.getfixturevalue
    match request.param:
        case "rabbitmq":
            return ask("amqp_url"), ask("redis_url"), ask("redis_url")
        case "redis":
            return ask("redis_broker_url"), ask("redis_url"), ask("redis_url")
        case "embedded":
            return "filesystem://localhost//", f"file://{tmp_path / 'results'}", ""


@pytest.fixture
def host(services, tmp_path):
    """The project as it was, with its database."""
    host = Host(tmp_path, *services)
    host.manage("makemigrations", "-v", "0", "warehouse")
    host.manage("migrate", "-v", "0")
    yield host
    host.kill_all()


def own_tests(host) -> list[str]:
    """Return what came of the project's own tests, which run in eager mode."""
    return re.findall(r"^(?:Ran \d+ tests|OK|FAILED.*)", host.manage("test", SHOP_EAGER="yes"), re.MULTILINE)


def polled(host, web) -> dict[str, list[dict]]:
    """Return what celery-progress' page is told of two tasks, up to their ends."""
    told = {}
    for name, path in json.loads(host.get(web, "/import/")).items():
        answers = told[name] = []

        def complete(path=path, answers=answers) -> bool:
            answers.append(json.loads(host.get(web, path.removeprefix("/shop"))))
            return answers[-1]["complete"]

        wait_until(complete, f"celery-progress tells the end of {name}; see {host.folder}")
    return told


@pytest.mark.parametrize("services", ["rabbitmq", "embedded"], indirect=True)
def test_nothing_is_taken_away(host, installed):
    if host.environment["SHOP_BROKER_URL"].startswith("filesystem:"):
        host.install(installed, FOLDER_BROKER)  # kombu's own loses messages
    worker = host.worker()
    before = host.facts()
    assert own_tests(host) == ["Ran 3 tests", "OK"]
    host.stop(worker)
    host.install(installed, EDITS)
    host.manage("makemigrations", "--check")
    host.manage("migrate", "-v", "0")
    assert host.added <= 12
    host.worker()
    web = host.serve("uvicorn")
    after = host.facts()
    assert after == before
    assert (after["get"], after["completed"], after["chord"]) == (3, 3, 12)
    assert own_tests(host) == ["Ran 3 tests", "OK"]
    told = polled(host, web)
    assert told["import"][-1]["result"] == 20
    assert any(0 < answer["progress"]["percent"] < 100 for answer in told["import"])
    assert (told["export"][-1]["success"], told["export"][-1]["result"]) == (False, "no paper")


@pytest.mark.parametrize(
    ("services", "server"),
    [("rabbitmq", "uvicorn"), ("redis", "daphne"), ("embedded", "hypercorn"), ("redis", "granian")],
    indirect=["services"],
)
def test_the_bar_moves_on_every_server(host, installed, server, visitor):
    folder = host.environment["SHOP_BROKER_URL"].startswith("filesystem:")
    host.install(installed, EDITS + (FOLDER_BROKER if folder else []))
    host.manage("migrate", "-v", "0")
    host.worker()
    page = stock_page(host.serve(server), visitor)
    page.click("text=START")
    expect(page.locator("#jobs .percent")).to_have_text(HALF)
    page.reload()
    expect(page.locator("#jobs .words")).to_have_text("Done. The answer is 780.")
    assert page.problems == []


@pytest.mark.parametrize("services", ["rabbitmq"], indirect=True)
def test_a_site_on_wsgi_asks_over_http(host, installed, visitor):
    host.install(installed, EDITS + API)
    host.manage("migrate", "-v", "0")
    host.worker()
    host.start("relay", "manage.py", "run_relay")
    page = visitor.new_page()
    page.goto(f"http://{host.serve('wsgi')}/shop/stock/")
    expect(page.locator("#link")).to_have_text(re.compile("asking every"))
    page.click("text=START")
    expect(page.locator("#jobs .percent")).to_have_text(HALF)
    expect(page.locator("#jobs .words")).to_have_text("Done. The answer is 780.")


def stock_page(web, visitor):
    """Open the project's page, and note what its Content-Security-Policy refuses."""
    page = open_page(visitor, SimpleNamespace(host=web), "/shop/stock/")
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    return page
