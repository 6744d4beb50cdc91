"""The wheel, in a virtual environment of its own and far from this checkout: installed, migrated, a task run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
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


def test_a_project_that_installs_it_runs_a_task(python: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    environment = {"REDIS_URL": redis_server.url, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def manage(*words: str) -> str:
        command = [str(python), "manage.py", *words]
        done = subprocess.run(
            command, cwd=tmp_path / "project", env=environment, capture_output=True, text=True, timeout=60
        )
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
