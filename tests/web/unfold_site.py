"""Settings of a site with django-unfold; run, it renders every page of the admin there with something to show.

python -m tests.web.unfold_site      (broker from the environment; prints status, address and length of each page)
"""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as OF_TESTS
from tests.settings import TASKQ as TASKQ_OF_TESTS

INSTALLED_APPS = ["unfold", *OF_TESTS]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKQ = {**TASKQ_OF_TESTS, "BROKER": os.environ["REDIS_URL"], "QUEUES": {"default": {}, "mail": {}}}


def main() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    from django.test import Client

    from django_taskq.broker import get_broker
    from tests.browser.sights import fill
    from tests.web.scene import Scene

    user, client = User.objects.create_superuser("operator"), Client(SERVER_NAME="localhost")
    client.force_login(user)
    scene = Scene(get_broker())
    for url in fill(scene, user).urls:
        response = client.get(url)
        print(response.status_code, url, "unfold" in response.text, "tq-" in response.text)
    scene.close()


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.web.unfold_site"
    main()
