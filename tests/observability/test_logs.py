"""What log records say, and what is kept of a task's own log."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import logging.config
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.test import Client

from django_taskq import TaskFailed
from django_taskq.broker import Broker
from django_taskq.conf import read_settings
from django_taskq.context import current_context, current_request_id
from django_taskq.core.outcome import decode_outcome
from django_taskq.kept_log import KeptLog, capture
from django_taskq.log_bounds import LogBounds
from django_taskq.logs import FIELDS, trace_id_of
from django_taskq.models import DeadTask, TaskResult
from tests.observability import tasks
from tests.observability.conftest import Use, context_of, run
from tests.servers import ROOT, wait_for
from tests.worker.inside import delivery_of, new_executor, outcome_in

if TYPE_CHECKING:
    from tests.conftest import StartWorker

TRACE = {"trace": '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'}


# --- fields -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a project's JSON formatter writes, set up as docs/observability.md says."""
    page = (ROOT / "docs" / "observability.md").read_text()
    example: dict[str, Any] = {}
    exec(page.split("```python\nLOGGING = ")[1].join(["LOGGING = ", ""]).split("```")[0], example)
    stream = io.StringIO()
    example["LOGGING"]["handlers"]["console"]["stream"] = stream
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    logging.config.dictConfig(example["LOGGING"])
    yield stream
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_of_a_task_says_which_task_it_is(lines: io.StringIO, use: Use) -> None:
    use()
    context = context_of(tasks.works, headers=TRACE, attempt=1)
    run(context, "x")
    [line] = read(lines)
    assert (line["message"], line["name"]) == ("works on 'x'", "tests.observability")
    assert {name: line[name] for name in FIELDS} == {
        "task": tasks.works.name,
        "task_id": context.id,
        "queue": "default",
        "attempt": 2,
        "worker": "host-1-test",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


def test_coroutines_on_one_loop_each_say_their_own(lines: io.StringIO) -> None:
    async def one(number: int) -> None:
        current_context.set(context_of(tasks.works_async, attempt=number))
        for _ in range(3):
            await asyncio.sleep(0)
            logging.getLogger("any").info("%d", number + 1)
        await asyncio.to_thread(logging.getLogger("any").info, "%d", number + 1)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(20)))

    asyncio.run(all_of_them())
    found = read(lines)
    assert len(found) == 80
    assert all(int(line["message"]) == line["attempt"] for line in found)


def test_outside_of_a_task_nothing_is_added(lines: io.StringIO) -> None:
    logging.getLogger("any").info("hello")
    token = current_request_id.set("7f")
    logging.getLogger("any").info("in a request")
    current_request_id.reset(token)
    plain, request = read(lines)
    assert plain.keys() == {"asctime", "levelname", "name", "message"}
    assert request["request_id"] == "7f"


def test_a_text_format_may_name_the_fields_everywhere() -> None:
    from django_taskq.logs import TaskContextFilter

    record = logging.LogRecord("any", logging.INFO, "", 1, "hello", None, None)
    assert TaskContextFilter().filter(record)
    text = "%(task)s|%(task_id)s|%(queue)s|%(attempt)s|%(worker)s|%(trace_id)s|%(request_id)s|%(message)s"
    assert logging.Formatter(text).format(record) == "|||||||hello"


def test_the_workers_own_records_have_fields(lines: io.StringIO) -> None:
    executor = new_executor()
    logging.getLogger("django_taskq.worker.tasks").setLevel(logging.INFO)
    for task, error in ((tasks.fails, ValueError("x")), (tasks.works, ValueError("y")), (tasks.discards, None)):
        work: Any = executor.prepare(delivery_of(task, headers=TRACE, attempt=3 if task is tasks.works else 0))
        settlement = executor.failed(work, error or tasks.Discard("no"))
        if settlement.then is not None:
            settlement.then()
    retried, buried, discarded = read(lines)
    for line, task in ((retried, tasks.fails), (buried, tasks.works), (discarded, tasks.discards)):
        assert (line["task"], line["queue"], line["worker"]) == (task.name, "default", "host-1-test")
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert line["name"] == "django_taskq.worker.tasks"
        assert 0 <= line["duration"] < 5
        assert len(line["task_id"]) == 36
    assert (retried["levelname"], retried["attempt"]) == ("WARNING", 1)
    assert (buried["levelname"], buried["attempt"]) == ("ERROR", 4)


def calls_of_loggers() -> Iterator[tuple[str, str, set[str | None]]]:
    """File, text and keyword arguments of each line that the worker logs."""
    for path in (ROOT / "django_taskq" / "worker").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.args[0] if isinstance(node, ast.Call) and node.args else None
            if isinstance(node, ast.Call) and isinstance(text, ast.Constant) and "logger" in ast.unparse(node.func):
                yield path.name, str(text.value), {keyword.arg for keyword in node.keywords}


def test_each_line_that_names_a_worker_or_a_task_has_them_as_fields_too() -> None:
    found = [call for call in calls_of_loggers() if call[1].startswith(("worker %s", "%s %s "))]
    assert len(found) > 10
    assert [call[:2] for call in found if "extra" not in call[2]] == []


def test_messages_that_nobody_can_run_say_which_they_are(lines: io.StringIO) -> None:
    delivery = delivery_of(tasks.works, headers=TRACE)
    delivery.fields[delivery.fields.index(b"t") + 1] = b"shop.gone"
    new_executor().prepare(delivery)
    [line] = read(lines)
    assert (line["task"], line["queue"], line["worker"]) == ("shop.gone", "default", "host-1-test")
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("header", ["", "x", '{"traceparent":"00-0-0-0"}', '{"traceparent":7}', "{" * 9000])
def test_a_trace_that_is_none_gives_no_id(header: str) -> None:
    assert trace_id_of({"trace": header}) == ""


def test_every_field_has_its_row() -> None:
    page = (ROOT / "docs" / "observability.md").read_text().split("### Fields")[1].split("\n### ")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert rows == {*FIELDS, "duration"}
    assert "`request_id`" in page
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "django_taskq").rglob("*.py"))
    given = {name for extra in re.findall(r"extra=\{([^}]*)\}", code) for name in re.findall(r'"(\w+)":', extra)}
    assert given
    assert given <= rows


# --- bounds -----------------------------------------------------------------------------------------------------------


def kept(*texts: str, most: int | None = None, **bounds: int) -> list[str]:
    log = KeptLog(LogBounds(**bounds))
    for text in texts:
        log.add(logging.LogRecord("shop", logging.INFO, "", 1, text, None, None))
    return log.text(most).splitlines()


def test_a_line_says_when_how_bad_and_where() -> None:
    [line] = kept("hello")
    assert line.split(" ", 1)[1] == "INFO shop hello"
    assert line.split(" ", maxsplit=1)[0].endswith("Z")


def test_the_last_lines_are_kept() -> None:
    lines = kept(*(f"line {number}" for number in range(500)), lines=3)
    assert [line.rpartition("shop ")[2] for line in lines] == [
        "... 497 lines are not kept", "line 497", "line 498", "line 499"
    ]  # fmt: skip


def test_bytes_are_bounded_whatever_the_characters_are() -> None:
    lines = kept(*("ü" * 400 for _ in range(50)), bytes=2000)
    assert len("\n".join(lines[1:]).encode()) <= 2000
    assert lines[0] == "... 48 lines are not kept"
    assert len(kept("x" * 100_000)[0]) < 2100
    assert kept("x" * 500, bytes=100) == ["... 1 lines are not kept"]
    assert len(kept("a", "b", "c", most=50)) == 2


def test_what_cannot_be_stored_or_formatted_is_kept_as_something_that_can() -> None:
    assert kept("lone \ud800")[0].endswith("lone \\ud800")
    log = KeptLog(LogBounds())
    log.add(logging.LogRecord("shop", logging.INFO, "", 1, "%d", ("x",), None))
    assert log.text() == "<a record of shop that cannot be formatted>"


def test_the_calls_of_a_batch_share_the_bytes() -> None:
    log = KeptLog(LogBounds(bytes=10_000))
    for _ in range(100):
        log.add(logging.LogRecord("shop", logging.INFO, "", 1, "x" * 200, None, None))
    assert 9_000 < len(log.text()) < 10_100
    log.share(4)
    assert 2_000 < len(log.text()) < 2_600
    log.share(1000)
    assert 1_700 < len(log.text()) < 2_100
    assert log.text() is log.text()


def test_secrets_are_redacted() -> None:
    assert kept("password=hunter2")[0].endswith("password=[redacted]")


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (False, None),
        (True, LogBounds()),
        ("warning", LogBounds(level=logging.WARNING)),
        ({}, LogBounds()),
        ({"level": "DEBUG", "lines": 1, "bytes": 262_144}, LogBounds(logging.DEBUG, 1, 262_144)),
    ],
)
def test_how_much_is_kept(value: Any, bounds: LogBounds | None) -> None:
    assert read_settings({"CAPTURE_LOGS": value}).capture_logs == bounds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("LOUD", "must be True, False, the name of a level"),
        (7, "must be True, False, the name of a level"),
        (None, "must be True, False"),
        ({"line": 7}, "has no key 'line'. Did you mean 'lines'?"),
        ({"lines": 0}, "'lines' a whole number from 1 to 10,000, not int 0"),
        ({"bytes": True}, "'bytes' a whole number from 1 to 262,144, not bool True"),
        ({"lines": 10_001}, "from 1 to 10,000"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(value: Any, text: str) -> None:
    with pytest.raises(Exception, match=r"TASKQ\['CAPTURE_LOGS'\]") as caught:
        read_settings({"CAPTURE_LOGS": value})
    assert text in str(caught.value)


# --- capture ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def captured() -> Iterator[None]:
    """As a task process begins."""
    before = logging.getLogRecordFactory()
    logger = logging.getLogger("tests.observability")
    level, logger.propagate = logger.level, False
    logger.setLevel(logging.INFO)
    capture(LogBounds())
    yield
    logging.setLogRecordFactory(before)
    logger.setLevel(level)
    logger.propagate = True


@pytest.mark.parametrize("task", [tasks.works, tasks.works_async])
@pytest.mark.usefixtures("captured")
def test_a_success_keeps_its_log(task: Any, use: Use) -> None:
    use()
    executor = new_executor()
    work: Any = executor.prepare(delivery_of(task, "x"))
    assert run(work.context, *work.args) == "x"
    outcome = outcome_in(executor.succeeded(work, "x"))
    assert outcome.log.endswith("INFO tests.observability works on 'x'")


@pytest.mark.usefixtures("captured")
def test_a_failure_keeps_it_with_each_attempt(use: Use) -> None:
    use()
    executor = new_executor()
    work: Any = executor.prepare(delivery_of(tasks.fails, "x", attempt=1))
    outcome = outcome_in(executor.failed(work, run(work.context, "x")))
    assert outcome.log.endswith("WARNING tests.observability about to fail")
    assert outcome.history[-1].log == outcome.log


@pytest.mark.usefixtures("captured")
def test_what_is_not_a_tasks_own_is_not_kept(use: Use) -> None:
    use()
    logging.getLogger("tests.observability").info("outside")
    executor = new_executor()
    silent: Any = executor.prepare(delivery_of(tasks.asks_again))
    run(silent.context)
    assert silent.context.log is None
    assert outcome_in(executor.succeeded(silent, None)).log == ""


def test_an_attempt_of_a_version_that_kept_no_log_is_read(use: Use) -> None:
    """And the other way round: readers pass over what is appended."""
    import msgspec

    from django_taskq.core.message import Attempt

    old = msgspec.json.encode([1, 1.0, 2.0, "w", "retry", "E", "m", "t"])
    assert msgspec.json.decode(old, type=Attempt).log == ""
    longer = msgspec.json.encode([1, 1.0, 2.0, "w", "retry", "E", "m", "t", "a log", "and more"])
    assert msgspec.json.decode(longer, type=Attempt).log == "a log"
    assert decode_outcome(msgspec.msgpack.encode([b"i" * 16, 1, "succeeded", True])).log == ""


@pytest.mark.django_db(transaction=True)
def test_through_a_worker_to_the_admin(worker: StartWorker, admin_client: Client) -> None:
    process = worker("--threads", "2", tasks=["tests.observability.tasks"], taskq={"CAPTURE_LOGS": "INFO"})
    hostile = "<script>alert(1)</script> token=hunter2"
    many = tasks.takes_many.delay_many([((0,), {}), ((1,), {})])
    failed, good = tasks.fails.delay("x"), tasks.works_loudly.delay(hostile)
    assert good.get(timeout=15) is None
    with pytest.raises(TaskFailed):
        failed.get(timeout=15)
    wait_for(lambda: TaskResult.objects.count() == 4 and DeadTask.objects.count() == 2)
    assert process.terminate() == 0
    result, dead = TaskResult.objects.get(pk=good.id), DeadTask.objects.get(task_id=failed.id)
    even, odd = (TaskResult.objects.get(pk=handle.id) for handle in many)
    assert "INFO tests.observability 2 calls" in even.log
    assert "2 calls" in odd.attempts_history[0]["log"]
    assert "1 calls" in odd.log
    assert "WARNING tests.observability <script>alert(1)</script> token=[redacted]" in result.log
    assert dead.log.endswith("about to fail")
    assert [attempt["log"].endswith("about to fail") for attempt in dead.attempts_history] == [True, True]
    page = admin_client.get(f"/admin/django_taskq/taskresult/{result.pk}/change/").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; token=[redacted]" in page
    assert "hunter2" not in result.log
    page = admin_client.get(f"/admin/django_taskq/deadtask/{dead.pk}/change/").content.decode()
    assert page.count("about to fail") == 2  # the last attempt's, and the first's in the timeline


@pytest.mark.django_db
def test_who_may_not_see_arguments_sees_no_log(
    client: Client, django_user_model: Any, capsys: pytest.CaptureFixture[str], broker: Broker
) -> None:
    from django.contrib.auth.models import Permission

    from tests.records.outcomes import failed
    from tests.web.conftest import record

    record(failed(log="a line of the log"))
    call_command("taskq_dead", "show", str(DeadTask.objects.get().task_id))
    assert "\na line of the log\n" in capsys.readouterr().out
    user = django_user_model.objects.create_user("staff", password="x", is_staff=True)
    may = Permission.objects.filter(codename__in=("view_taskresult", "view_deadtask"))
    user.user_permissions.set(may)
    client.force_login(user)
    paths = [f"taskresult/{TaskResult.objects.get().pk}", f"deadtask/{DeadTask.objects.get().pk}"]
    pages = [client.get(f"/admin/django_taskq/{path}/change/").content.decode() for path in paths]
    assert not any("a line of the log" in page for page in pages)
    user.user_permissions.add(Permission.objects.get(codename="view_arguments"))
    pages = [client.get(f"/admin/django_taskq/{path}/change/").content.decode() for path in paths]
    assert all("a line of the log" in page for page in pages)
