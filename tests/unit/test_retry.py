"""Retry: when a failed task is tried again."""

import random

import pytest

from django_tasks_seq.exceptions import DontRetry, RetryLater, SequenceDeclarationError, TaskTimeout
from django_tasks_seq.sequences import Retry


def delays(retry, exception=None, attempts=range(1, 6), **kwargs):
    error = exception or ValueError("no")
    return [retry.next_delay(error, attempt, **kwargs) for attempt in attempts]


def test_one_attempt_is_never_followed_by_another():
    """The default budget of one attempt gives no delay at all."""
    assert delays(Retry(1)) == [None] * 5


def test_delays_double_up_to_the_limit():
    """Without jitter: delay * factor ** (attempt - 1), at most max_delay, until the budget ends."""
    retry = Retry(5, delay=2, factor=3, max_delay=20, jitter=False)

    assert delays(retry) == [2, 6, 18, 20, None]


def test_full_jitter_takes_any_part_of_the_delay():
    """The delay is a random part of the exponential one, from nothing to all of it."""
    retry = Retry(9, delay=8)

    assert retry.next_delay(ValueError(), 2, random=lambda: 0.0) == 0
    assert retry.next_delay(ValueError(), 2, random=lambda: 0.5) == 8
    assert all(0 <= delay <= 16 for delay in delays(retry, attempts=[2] * 1000))


def test_a_herd_is_spread():
    """2,000 jobs that fail together return over the whole delay, no second twice the mean."""
    source = random.Random(7)
    retry = Retry(2, delay=60)

    seconds = [int(delay) for delay in delays(retry, attempts=[1] * 2000, random=source.random)]

    assert max(seconds.count(second) for second in range(60)) <= 2 * 2000 / 60


def test_a_late_attempt_does_not_overflow():
    """The power of a large attempt number is the limit, no error."""
    retry = Retry(10**7, factor=10, max_delay=30, jitter=False)

    assert retry.next_delay(ValueError(), 10**6) == 30


def test_only_listed_exceptions_are_tried_again():
    """`retry_on` and `dont_retry_on` look at subclasses as `except` does."""
    retry = Retry(3, jitter=False, retry_on=OSError, dont_retry_on=(FileNotFoundError,))

    assert delays(retry, ConnectionError(), [1]) == [1.0]
    assert delays(retry, FileNotFoundError(), [1]) == [None]
    assert delays(retry, ValueError(), [1]) == [None]
    assert (retry.retry_on, retry.dont_retry_on) == ((OSError,), (FileNotFoundError,))


def test_a_timeout_is_tried_again_and_an_exit_is_not():
    """By default every Exception counts, and what is no Exception does not."""
    assert delays(Retry(2, jitter=False), TaskTimeout(3), [1]) == [1.0]
    assert delays(Retry(2), SystemExit(), [1]) == [None]
    assert delays(Retry(2, jitter=False, retry_on=(SystemExit,)), SystemExit(), [1]) == [1.0]


def test_dont_retry_ends_at_once():
    """`DontRetry` wins over everything, also when it is listed."""
    assert delays(Retry(5, retry_on=(DontRetry,)), DontRetry(), [1]) == [None]


def test_retry_later_sets_the_delay_within_the_budget():
    """`RetryLater` needs no listing and no cap, but an attempt that is left."""
    retry = Retry(3, retry_on=(OSError,), max_delay=1)

    assert delays(retry, RetryLater(90), [1, 2, 3]) == [90, 90, None]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", None])
def test_retry_later_with_nonsense_is_an_error(seconds):
    """What is no number of seconds is named, not stored."""
    error = RetryLater(1)
    error.seconds = seconds

    with pytest.raises(ValueError, match="RetryLater gave"):
        Retry(2).next_delay(error, 1)


def test_backoff_replaces_the_formula():
    """`backoff(exception, attempt)` is taken at its word, None ends the attempts."""
    seen = []

    def backoff(exception, attempt):
        seen.append((str(exception), attempt))
        return None if attempt == 2 else 7

    assert delays(Retry(9, backoff=backoff, max_delay=1), attempts=[1, 2]) == [7.0, None]
    assert seen == [("no", 1), ("no", 2)]


def test_backoff_is_not_asked_when_no_attempt_is_left():
    """Past the budget the callable is not called."""
    assert Retry(1, backoff=lambda *_: pytest.fail("asked")).next_delay(ValueError(), 1) is None


def test_a_backoff_that_fails_is_heard():
    """Its exception, or nonsense it returns, reaches the caller."""

    def failing(exception, attempt):
        raise KeyError("backoff")

    with pytest.raises(KeyError):
        Retry(2, backoff=failing).next_delay(ValueError(), 1)
    with pytest.raises(ValueError, match="backoff gave -5"):
        Retry(2, backoff=lambda *_: -5).next_delay(ValueError(), 1)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"max_attempts": 2.5}, "max_attempts is 2.5"),
        ({"delay": -1}, "delay is -1; give a number from 0."),
        ({"delay": "1"}, "delay is '1'"),
        ({"factor": 0.5}, "factor is 0.5; give a number from 1."),
        ({"max_delay": float("nan")}, "max_delay is nan"),
        ({"backoff": 5}, "backoff is 5"),
        ({"retry_on": (ValueError, 5)}, "retry_on is"),
        ({"retry_on": int}, "retry_on is"),
        ({"dont_retry_on": 5}, "dont_retry_on is 5"),
    ],
)
def test_values_without_sense_are_refused_where_they_stand(kwargs, problem):
    """The error names file, line, field and value."""
    with pytest.raises(SequenceDeclarationError) as caught:
        Retry(**({"max_attempts": 3} | kwargs))

    assert f"Retry: {problem}" in str(caught.value)
    assert "tests/unit/test_retry.py:" in str(caught.value)
