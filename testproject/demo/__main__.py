"""`python -m testproject.demo`: the whole thing at work, on one machine, in half a minute.

Starts a Redis-compatible server, a web server and a worker, sends mails and pictures, and shows what happens to them.
With --once it waits until all is settled, prints a table and exits: 0, or 1 if any task is unaccounted for.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from testproject.environment import read_dotenv

if TYPE_CHECKING:
    from testproject.demo.site import Site

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "this-is-a-demo"  # what lies beside it is ours to delete


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # SIGINT is ignored in a background job
        signal.signal(number, signal.default_int_handler)
    try:
        with claim(options.directory):
            prepare_environment(options.directory)

            import django

            django.setup()
            from testproject.demo.site import Site

            with Site(options.directory) as site:
                empty(options.directory)
                return run(site, options)
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
        return 130 if options.once else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo ARGS='...'", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--once", action="store_true", help="end when all is settled, with a table")
    parser.add_argument("--mails", type=int, default=100, help="e-mails to send (100)")
    parser.add_argument("--pictures", type=int, default=10, help="pictures to resize (10)")
    parser.add_argument("--spread", type=float, default=20, help="seconds over which the pictures are scheduled (20)")
    parser.add_argument("--timeout", type=float, default=180, help="seconds after which --once gives up (180)")
    parser.add_argument("--directory", type=lambda text: Path(text).absolute(), default=ROOT / ".demo", help=".demo")
    return parser.parse_args(arguments)


def claim(directory: Path) -> IO[str]:
    """The open, locked mark of a directory that is empty or an earlier demo's, and that no running one uses."""
    if directory.exists() and any(directory.iterdir()) and not (directory / MARK).exists():
        sys.exit(f"{directory} is not an earlier demo's: choose another --directory")
    directory.mkdir(parents=True, exist_ok=True)
    mark = (directory / MARK).open("a")
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"a demo is running in {directory}: stop it, or choose another --directory")
    return mark


def empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != MARK:
            entry.unlink()


def prepare_environment(directory: Path) -> None:
    """Before Django reads its settings; the web server and the worker inherit it."""
    read_dotenv(Path(os.environ.get("ENV_FILE", ROOT / ".env")))
    if not os.environ.get("REDIS_URL") and not os.environ.get("REDIS_ADDR"):
        os.environ["REDIS_URL"] = f"embedded://{directory / 'queue'}"
    os.environ["DATA_DIR"] = str(directory)
    os.environ["DATABASE_URL"] = f"sqlite:///{directory / 'db.sqlite3'}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
    os.environ["DEBUG"] = "1"


def run(site: Site, options: argparse.Namespace) -> int:
    from testproject.demo.accounts import Accounts
    from testproject.demo.progress import Progress
    from testproject.demo.work import send_work

    password = secrets.token_urlsafe(9)
    print(f"Queue     {site.start_broker()}")
    print(f"Database  {site.migrate(password)}")
    print(f"Web       {site.start_web()}")
    print(f"Worker    {site.start_worker()}")
    sent = send_work(options.mails, options.pictures, options.spread)
    print(f"Sent      {len(sent)} tasks: {options.mails} e-mails, {options.pictures} pictures, 1 that always fails\n")
    accounts = Accounts(sent)
    progress = Progress(accounts, site.worker_log)
    settled = progress.follow(site.check, timeout=options.timeout if options.once else None)
    print()
    if options.once:
        print(accounts.table())
        return 0 if settled and accounts.balanced() else 1
    print(accounts.table())
    print(f"\nSend more   {site.url}/")
    print(f"Admin       {site.url}/admin/django_taskq/overview/   user: admin   password: {password}")
    print("\nCtrl-C stops everything.\n", flush=True)
    progress.listen(site.check)
    return 0


if __name__ == "__main__":
    sys.exit(main())
