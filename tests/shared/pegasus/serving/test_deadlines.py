"""When a connection has been silent for too long."""

from __future__ import annotations

import pytest

from shared.pegasus.serving.deadlines import Deadlines, Progress

IDLE_S = 120.0


class Looks:
    """A connection that is looked at every five seconds."""

    def __init__(self):
        self.now_s = 1000.0
        self.deadlines = Deadlines(self.now_s)

    def after(self, seconds: float, *seen: Progress) -> str | None:
        """What the last of the looks says, which see one thing after the other and the last until the time is up."""
        end_s, reason, number = self.now_s + seconds, None, 0
        while self.now_s < end_s and reason is None:
            self.now_s += 5.0
            reason = self.deadlines.check(self.now_s, seen[min(number, len(seen) - 1)], IDLE_S)
            number += 1
        return reason


@pytest.fixture
def looks():
    return Looks()


def test_a_connection_must_send_a_request(looks):
    assert looks.after(55, Progress()) is None
    assert looks.after(5, Progress()) == "a request was not there within 60 s"


def test_a_request_that_trickles_in_is_not_waited_for(looks):
    trickle = [Progress(requests=3, received=number) for number in range(100)]
    assert looks.after(200, *trickle) == "a request was not there within 60 s"


def test_one_request_after_the_other_may_be_seen_in_part(looks):
    busy = [Progress(requests=number, received=number) for number in range(1000)]
    assert looks.after(1000, *busy) is None


def test_a_request_behind_others_that_are_not_answered_has_time(looks):
    assert looks.after(1000, Progress(requests=1, is_owed=True)) is None
    assert looks.after(55, Progress(requests=1)) is None


def test_a_client_that_waits_for_an_answer_is_not_idle(looks):
    assert looks.after(1000, Progress(1, 1, is_partial=False, is_owed=True)) is None
    assert looks.after(115, Progress(1, 1, is_partial=False)) is None
    assert looks.after(5, Progress(1, 1, is_partial=False)) == "idle for 120 s"


def test_a_client_that_sends_requests_is_not_idle(looks):
    assert looks.after(1000, *[Progress(0, number, is_partial=False) for number in range(1000)]) is None


def test_a_client_that_takes_no_answers_is_not_waited_for(looks):
    stuck = Progress(1, 1, is_partial=False, is_owed=True, unsent_bytes=5_000_000)
    assert looks.after(200, stuck) == "its client took no answer for 60 s"
    slow = [Progress(1, 1, False, True, 5_000_000 - number * 1000) for number in range(1000)]
    assert Looks().after(1000, *slow) is None
