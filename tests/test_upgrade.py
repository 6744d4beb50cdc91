"""A deployment replaces workers one by one: two versions of scripts, messages and outcomes live side by side."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from django_taskq.core.message import Attempt
from django_taskq.core.outcome import Outcome, decode_outcome
from django_taskq.models import TaskResult
from tests.servers import ROOT, Process, RedisServer, wait_for
from tests.upgrade_tasks import fails_at_first, spawns

if TYPE_CHECKING:
    from tests.conftest import StartWorker


def as_array(value: Any) -> list[Any]:
    return list(msgspec.msgpack.decode(msgspec.msgpack.encode(value)))


OUTCOME = Outcome(
    b"0123456789abcdef", 2, "failed", True, b"1", "why", "t", "q", 1, b"[1]", b"{}", 3, 1, 1.5, 2.5, 3.5, 4.5, "w",
    ["w"], "E", "m", "tb", "failed", [Attempt(1, 0.5, 1.0, "w", "retry", "E", "m", "tb")], "k", b"raw", 0.25,
)  # fmt: skip


def test_an_outcome_of_a_later_version_with_more_fields_is_read() -> None:
    array = as_array(OUTCOME)
    array[23][0] += ["a later field", {"of": "any kind"}]  # of the attempt in its history
    array += [None, b"\x80", {"more": [1, 2]}]
    assert decode_outcome(msgspec.msgpack.encode(array)) == OUTCOME


@pytest.mark.parametrize("fields", range(4, len(Outcome.__struct_fields__)))
def test_an_outcome_of_an_earlier_version_with_fewer_fields_is_read(fields: int) -> None:
    read = decode_outcome(msgspec.msgpack.encode(as_array(OUTCOME)[:fields]))
    default = Outcome(OUTCOME.id, OUTCOME.run, OUTCOME.status, OUTCOME.recorded)
    for position, name in enumerate(Outcome.__struct_fields__):
        assert getattr(read, name) == getattr(OUTCOME if position < fields else default, name), name


# The next version, made of this one: every script has another SHA, messages and outcomes have another field.
CHANGES = {
    "core/message.py": ('fields: list[bytes | str] = ["i", self.id, "t", self.task]', ' + ["zz", b"\\x80 new"]'),
    "core/outcome.py": ("wait: float | None = None", '\n    zz: str = "new"'),
}


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """A directory with that version of the package and a manage.py."""
    package = tmp_path / "next" / "django_taskq"
    shutil.copytree(ROOT / "django_taskq", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("manage.py", "testproject", "tests"):
        (package.parent / name).symlink_to(ROOT / name)
    (package.parent / "manage.py").unlink()
    shutil.copy(ROOT / "manage.py", package.parent)
    for name, (before, more) in CHANGES.items():
        text = (package / name).read_text()
        assert text.count(before) == 1, name
        (package / name).write_text(text.replace(before, before + more))
    for script in (package / "broker" / "lua").glob("*.lua"):
        script.write_text("-- the next version\n" + script.read_text())
    return package.parent


@pytest.fixture
def next_worker(
    next_version: Path, manage_env: dict[str, str], taskq_settings: Any, tmp_path: Path
) -> Iterator[Process]:
    environment = {
        **manage_env,
        "PYTHONPATH": "",
        "TASKQ_TEST_SETTINGS": json.dumps(taskq_settings.TASKQ),
        "TASKQ_TEST_TASKS": "tests.upgrade_tasks",
    }
    command = [sys.executable, str(next_version / "manage.py"), "taskq_worker", "--threads", "2"]
    process = Process(command, tmp_path / "next.log", environment, cwd=next_version)
    yield process
    process.close()
    print(process.output())


def shas_of(directory: Path) -> list[str]:
    """Of the scripts as the package in this directory has them."""
    program = (
        "from django_taskq.broker import scripts as s; print(s.CLAIM.sha, s.COMPLETE.sha, s.RETRY.sha, s.ENQUEUE.sha)"
    )
    return subprocess.check_output([sys.executable, "-c", program], cwd=directory, text=True).split()


def test_workers_of_two_versions_share_a_queue(
    worker: StartWorker, next_worker: Process, next_version: Path, redis_server: RedisServer
) -> None:
    this_worker = worker("--threads", "2", tasks=["tests.upgrade_tasks"])
    with redis_server.client() as client:
        wait_for(lambda: client.zcard("{taskq}:workers") == 2, 20, next_worker.output)
        handles = fails_at_first.delay_many([((number % 3,), {}) for number in range(90)])
        spawns.delay(3, 3)
        for number, handle in enumerate(handles):
            assert handle.get(timeout=20) == number % 3 + 1
        wait_for(lambda: TaskResult.objects.count() == 90 + 1 + 3 + 9 + 27, 20, TaskResult.objects.count)
        shas = shas_of(ROOT) + shas_of(next_version)
        assert len(set(shas)) == 8
        assert client.script_exists(*shas) == [True] * 8
    rows = TaskResult.objects.all()
    assert {(row.status, row.attempts) for row in rows} <= {("succeeded", 1), ("succeeded", 2), ("succeeded", 3)}
    for process in (this_worker, next_worker):
        assert [row for row in rows if f"-{process.pid}-" in row.worker], process.output()
    crossed = [row for row in rows if len({attempt["worker"] for attempt in row.attempts_history} | {row.worker}) > 1]
    assert crossed, "no task was tried by workers of both versions"
