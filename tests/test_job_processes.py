"""`manage.py job` as it is called in a shell, beside a site that runs."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from testkit.processes import ROOT, Site, wait_until


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.kill_all()


def job(site, *arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "manage.py", "job", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=site.environment, capture_output=True, text=True, timeout=60, **options
    )


def test_the_exit_code_is_that_of_the_jobs_end(site):
    site.web()
    site.worker()
    ran = job(site, "start", "count_primes", "below=1000", "--follow")
    assert (ran.returncode, ran.stdout.splitlines()[1:]) == (0, ["168"])
    ran = job(site, "start", "welcome_email", "user_id=1", "--follow")
    assert ran.returncode == 1
    assert "there is no such user any more" in ran.stderr
    assert job(site, "start", "unknown").returncode == 1


def test_ctrl_c_in_a_terminal_leaves_the_job_to_its_worker(site):
    site.web()
    site.worker()
    main, terminal = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "manage.py", "job", "start", "count_primes", "--follow"],
        cwd=ROOT,
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        # A shell's background process ignores SIGINT, and so do the processes that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(terminal)
    shown = []

    def draws(text):
        shown.append(os.read(main, 10_000).decode())
        return text in "".join(shown)

    wait_until(lambda: draws("PROGRESS"), "a bar is drawn")
    watching.send_signal(signal.SIGINT)
    out, _ = watching.communicate(timeout=30)
    task_id = out.split()[0]
    assert watching.returncode == 130
    assert draws(f"manage.py job cancel {task_id}")
    os.close(main)
    assert job(site, "cancel", task_id).returncode == 0
    ran = job(site, "watch", task_id)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, "The job was cancelled.")
