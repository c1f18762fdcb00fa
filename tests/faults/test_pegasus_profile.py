"""A profile that is being taken does not hold up the end of a daemon."""

from __future__ import annotations

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import start_daemon


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("daemon", ["metaserver", "replicaserver"])
def test_a_stop_ends_a_profile_and_answers_with_it(daemon: str, tmp_path: Path) -> None:
    with start_daemon(daemon, "--data-dir", tmp_path) as running, ThreadPoolExecutor(1) as pool:
        profile = pool.submit(status, f"{running.url}/pprof/profile?seconds=50")
        while status(f"{running.url}/pprof/growth") == 200:
            if profile.done():  # it came while the other one was being taken
                profile = pool.submit(status, f"{running.url}/pprof/profile?seconds=50")
        assert running.terminate() == 0
        assert profile.result() == 200
        assert "requests were still unanswered" not in running.stderr()
