"""The wheel, in a virtual environment of its own and far from this checkout: installed, migrated, a task run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.servers import ROOT, RedisServer

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = {
    "manage.py": """
        import os, sys
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        from django.core.management import execute_from_command_line
        execute_from_command_line(sys.argv)
    """,
    "site_settings.py": """
        import os
        from pathlib import Path
        BASE_DIR = Path(__file__).parent
        SECRET_KEY = "x"
        DEBUG = True
        USE_TZ = True
        ROOT_URLCONF = "site_urls"
        STATIC_URL = "static/"
        INSTALLED_APPS = [
            "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
            "django.contrib.sessions", "django.contrib.staticfiles", "django_taskq", "shop",
        ]
        MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ]
        TEMPLATES = [{
            "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
            "OPTIONS": {"context_processors": [
                "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]},
        }]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
        TASKQ = {"BROKER": os.environ["REDIS_URL"]}
    """,
    "site_urls.py": """
        from django.contrib import admin
        from django.urls import path
        urlpatterns = [path("admin/", admin.site.urls)]
    """,
    "shop/__init__.py": "",
    "shop/tasks.py": """
        from django_taskq import task

        @task
        def add(a: int, b: int) -> int:
            return a + b
    """,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    [found] = directory.glob("*.whl")
    return found


def test_it_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name.startswith("django_taskq_redis-")
    assert wheel.name.endswith("-py3-none-any.whl")
    files = [path for path in (ROOT / "django_taskq").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == {"django_taskq_pytest.py", *(path.relative_to(ROOT).as_posix() for path in files)}
    assert {
        "django_taskq/py.typed",
        "django_taskq/broker/lua/claim.lua",
        "django_taskq/broker/lua/lib/held.lua",
    } < packaged
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for line in ("Name: django-taskq-redis", "Requires-Python: >=3.11", "License-Expression: BSD-3-Clause"):
        assert line in metadata


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment with the wheel and what it asks for."""
    directory = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, timeout=120)
    interpreter = directory / "bin" / "python"
    subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=400)
    return interpreter


def project(directory: Path) -> Path:
    """The files of PROJECT, written."""
    for name, text in PROJECT.items():
        path = directory / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return directory / "project"


def test_a_project_that_installs_it_runs_a_task(python: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    site = project(tmp_path)
    environment = {"REDIS_URL": redis_server.url, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def manage(*words: str) -> str:
        command = [str(python), "manage.py", *words]
        done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def shell(code: str) -> str:
        return manage("shell", "--verbosity", "0", "-c", code).strip()

    assert "no issues" in manage("check")
    assert "No changes detected" in manage("makemigrations", "--check", "--dry-run")
    manage("migrate", "--verbosity", "0")
    assert shell("import django_taskq; print(django_taskq.__file__)").startswith(str(python.parents[1]))
    id = shell("from shop.tasks import add; print(add.delay(2, 3).id)")
    assert json.loads(manage("taskq_status", "--json"))["queues"][0]["ready"] == 1
    manage("taskq_worker", "--burst")
    assert shell(f"from django_taskq import get_task; print(get_task('{id}').get(timeout=5))") == "5"
    assert shell("from django_taskq.models import TaskResult; print(TaskResult.objects.get().result)") == "5"
    assert json.loads(manage("taskq_bench", "--worker", "--tasks", "20", "--json"))["ok"]

    assert "taskq.css" in manage("findstatic", "django_taskq/taskq.css")
    page = shell(
        "from django.contrib.auth.models import User; from django.test import Client; "
        "u = User.objects.create_superuser('a', password='a'); c = Client(); c.force_login(u); "
        f"print(c.get('/admin/django_taskq/taskresult/{id}/change/', HTTP_HOST='localhost').content.decode())"
    )
    assert id in page
    assert "shop.tasks.add" in page


# What an extra is for: code that works once it is installed.
EXTRAS = {
    "metrics": "import django_prometheus, django_taskq.metrics.exporter",
    "embedded": "from shop.tasks import add; add.delay(1, 2)",  # its REDIS_URL is embedded://, and PATH is empty
    "otel": "import opentelemetry.sdk, django_taskq.middleware.tracing",
    "sentry": "import sentry_sdk, django_taskq.middleware.sentry",
    "json-logs": "import pythonjsonlogger.json",
    "encryption": "from django_taskq.core import sealing; import cryptography.hazmat.primitives.ciphers.aead",
    "cron": "from django_taskq import Cron; Cron('30 6 * * MON-FRI')",
    "watch": "import django_taskq.management.live.view",
}
FOR_THIS_CHECKOUT = {"demo", "serve", "test", "browser", "manifests", "apps", "docs", "dev"}


def test_every_extra_is_tried() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - FOR_THIS_CHECKOUT


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_its_feature_needs(extra: str, wheel: Path, python: Path, tmp_path: Path) -> None:
    install(python, f"{wheel}[{extra}]")
    environment = {"REDIS_URL": "embedded://", "PATH": "", "HOME": str(tmp_path)}
    command = [str(python), "manage.py", "shell", "--verbosity", "0", "-c", EXTRAS[extra]]
    done = subprocess.run(command, cwd=project(tmp_path), env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pytest_plugin_is_there_once_the_wheel_is_installed(python: Path, tmp_path: Path) -> None:
    install(python, "pytest>=8.3", "pytest-django>=4.14")
    site = project(tmp_path)
    (site / "test_add.py").write_text(
        "from shop.tasks import add\n\n"
        "def test_add(taskq):\n"
        "    add.delay(2, 3)\n"
        "    taskq.assert_enqueued(add, args=(2, 3), count=1)\n"
        "    assert [handle.get() for handle in taskq.run_enqueued()] == [5]\n"
    )
    environment = {"REDIS_URL": "redis://127.0.0.1:1", "PATH": "", "DJANGO_SETTINGS_MODULE": "site_settings"}
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_add.py"]
    done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, timeout=60)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_sdist_has_what_its_tests_need(python: Path, tmp_path: Path) -> None:
    install(python, "build>=1.2")
    command = [str(python), "-m", "build", "--sdist", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    [source] = tmp_path.glob("django_taskq_redis-*/")
    for directory in ("benchmarks", "deploy", "django_taskq", "docs", "testproject", "tests"):
        assert names(source / directory) == names(ROOT / directory)
    tests = ["tests/core", "tests/tasks", "tests/test_docs.py", "tests/test_matrix.py", "tests/typing"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *tests], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def names(directory: Path) -> set[str]:
    """Of the files below a directory, without what Python and tools leave there."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts and not path.name.startswith(".")}


def install(python: Path, *requirements: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    subprocess.run(command, check=True, timeout=400)
