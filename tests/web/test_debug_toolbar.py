"""The panel of django-debug-toolbar: what a request has sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.servers import ROOT, RedisServer


def test_it_lists_what_a_request_has_sent(redis_server: RedisServer) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.web.toolbar_site"], capture_output=True, text=True, cwd=ROOT, timeout=60,
        env={**os.environ, "REDIS_URL": redis_server.url}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    sends, nothing, sealed = seen["sends"], seen["nothing"], seen["sealed"]

    listed = sends["tasks"]
    assert sends["count"] == 6
    assert [task["arguments"] for task in listed[:3]] == ["[1,2]", "[0,0]", "[1,1]"]
    assert listed[0]["url"] == f"/admin/django_taskq/taskresult/{listed[0]['id']}/change/"
    assert {task["state"] for task in listed} == {"queued"}
    secret = listed[-1]["arguments"]
    assert ("hunter2" in secret, "redacted" in secret) == (False, True)
    assert "6 tasks sent" in sends["page"]
    assert "tests.sampleapp.tasks.add" in sends["panel"]
    assert "<script>" not in sends["panel"]

    assert (nothing["count"], nothing["tasks"]) == (0, [])
    assert "0 tasks sent" in nothing["page"]
    assert "has sent no tasks" in nothing["panel"]

    assert [task["arguments"] for task in sealed["tasks"]] == ["[versiegelt mit dem Schlüssel k1]"]
    assert "1 Aufgabe gesendet" in sealed["page"]
    assert "Warteschlange" in sealed["panel"]
