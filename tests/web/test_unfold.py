"""The pages on a site whose admin is django-unfold's: its templates are not Django's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.servers import ROOT, RedisServer


@pytest.mark.services
def test_every_page_renders_under_unfold(redis_server: RedisServer) -> None:
    environment = {**os.environ, "REDIS_URL": redis_server.url}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.web.unfold_site"], capture_output=True, text=True, env=environment, cwd=ROOT,
        timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    pages = [line.split() for line in ran.stdout.splitlines()]
    assert len(pages) > 10
    for status, url, unfold, own in pages:
        assert (status, unfold) == ("200", "True"), url
        assert own == "True" or url == "/admin/" or "/apitoken/" in url, url  # those are the admin's own forms
