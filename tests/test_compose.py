"""The compose file and the Dockerfile, as far as they can be checked without an engine."""

import re
import shutil
import sysconfig
from pathlib import Path

import pytest
import uvicorn
import yaml
from django.core.management import get_commands
from django.utils.module_loading import import_string

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = ["migrate", "web", "worker", "beat"]


def healthcheck(service) -> str:
    kind, *command = service["healthcheck"]["test"]
    assert kind in ("CMD", "CMD-SHELL")
    return " ".join(command)


def test_it_has_all_parts():
    assert sorted(SERVICES) == ["beat", "db", "migrate", "rabbitmq", "redis", "web", "worker"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_share_one_image(name):
    assert SERVICES[name]["build"] == COMPOSE["x-site"]["build"]
    assert SERVICES[name]["build"]["context"] == "."
    assert SERVICES[name]["image"] == "celeryprogressbar"


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name):
    program, *arguments = SERVICES[name]["command"]
    assert shutil.which(program, path=sysconfig.get_path("scripts"))
    if program == "uvicorn":
        application = uvicorn.main.make_context("uvicorn", arguments).params["app"]
        assert import_string(application.replace(":", "."))
    elif program == "celery":
        assert arguments[:3] == ["-A", "CeleryProgressbar", name]
    else:
        assert (program, arguments[0]) == ("python", "manage.py")
        assert arguments[1] in get_commands()


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_the_settings_read(name):
    settings = (ROOT / "CeleryProgressbar" / "settings.py").read_text()
    for variable in SERVICES[name]["environment"]:
        assert re.search(rf'env\.\w+\("{variable}"', settings), variable


def test_every_secret_comes_from_the_environment_and_is_in_the_example():
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    offered = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line}
    assert asked == offered
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASS" in name or "KEY" in name:
                assert value.startswith("${"), name


@pytest.mark.parametrize("name", ["db", "rabbitmq", "redis", "web", "worker"])
def test_every_lasting_service_has_a_health_check(name):
    assert healthcheck(SERVICES[name])


def test_the_image_is_built_from_a_lock_file_unless_env_names_another():
    [build] = [COMPOSE["x-site"]["build"]["args"]]
    name, default = re.fullmatch(r"\$\{(\w+):-(\S+)\}", build["REQUIREMENTS"]).groups()
    assert f"{name}={default}\n" in (ROOT / ".env.example").read_text()
    assert f"ARG {name}={default}\n" in DOCKERFILE


def test_every_dependency_exists_and_can_say_that_it_is_ready():
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            ready = {"service_healthy": "healthcheck", "service_completed_successfully": "command"}[how["condition"]]
            assert ready in SERVICES[name]


def test_the_health_check_asks_a_page_that_exists(client, db):
    path = re.search(r"8000(/\w+)", healthcheck(SERVICES["web"])).group(1)
    assert client.get(path).status_code == 200


def test_every_volume_is_declared():
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_the_image_runs_as_an_ordinary_user_and_copies_what_is_there():
    user = re.search(r"^USER (\w+)", DOCKERFILE, re.M).group(1)
    assert f" {user} " in DOCKERFILE.partition("USER")[0]
    assert user != "root"
    for source in re.findall(r"^COPY (\S+) ", DOCKERFILE, re.M):
        assert (ROOT / source).exists(), source


def test_the_image_starts_the_same_server_as_the_compose_file():
    command = re.search(r"^CMD (.*)$", DOCKERFILE, re.M).group(1)
    assert yaml.safe_load(command) == SERVICES["web"]["command"]
