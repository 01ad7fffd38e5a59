"""R3: workers that stand still longer than their lease, and then go on as if nothing had happened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.db import connection

from django_tasks_seq import executor
from django_tasks_seq.models import JobEvent
from tests.chaos.checker import check
from tests.chaos.evidence import Audit, gather
from tests.chaos.monkey import Crew, Monkey, Storm, open_jobs, rage
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.test_kills import ATOMIC, fill_in
from tests.chaos.zygote import Zygote
from tests.helpers import wait_until
from tests.process.ledger import Ledger, Line
from tests.testapp.chaos import FENCE_OFF, PATCHES, WATCH_WRITES

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

# Workers wait for one another's writes on SQLite, renewals too: twice as long, and half as often.
SLOW = 2 if connection.vendor == "sqlite" else 1
LEASE = 1.0 * SLOW
NAP = 1.5 * LEASE
PAUSE = (0.1 * SLOW, 0.5 * SLOW)
WORKERS = 3
STOPS = sizes().pick(cut=4, full=50)
REFUSED = sizes().pick(cut=1, full=20)
LEASES = sizes().pick(cut=4, full=10)
Zygotes = Callable[..., Zygote]


def storm(stops: int = STOPS) -> Storm:
    return Storm(jobs=30 * stops, stops=stops, nap=NAP, pause=PAUSE, seconds=0.03)


def believed(lines: list[Line]) -> set[tuple[str, str]]:
    """Tasks whose outcome was written under two claims: one of them was not the current one."""
    tokens: dict[tuple[str, str], set[int]] = defaultdict(set)
    for line in lines:
        tokens[line.job_id, line.task_id].add(line.attempt)  # the ledger's fourth word
    return {place for place, found in tokens.items() if len(found) > 1}


def test_outcomes_of_who_stood_still_are_refused(
    zygotes: Zygotes, ledger: Ledger, audit: Audit, seed: int
) -> None:
    """What a worker writes under a claim that others have taken changes nothing; a renewed claim holds."""
    zygote = zygotes(LEASE_SECONDS=LEASE, MAX_CRASHES=1000, env={PATCHES: WATCH_WRITES})
    monkey = Monkey(Crew(zygote, WORKERS, "--queues=default"), seed)
    with recorded("R3", seed=seed) as run:
        monkey.crew.wait_until_there()
        calm = zygote.fork("--queues=calm")
        (long,) = executor.start_many("short", [{"seconds": LEASES * LEASE}], queue="calm")
        started = rage(storm(), monkey)
        wait_until(lambda: not open_jobs(), timeout=60, what="the end of all jobs")
        codes = monkey.crew.dismiss()
        calm.terminate()
        verdict = check(gather(ledger, audit, monkey.faults), started=started, atomic=ATOMIC)
        fill_in(run, verdict, monkey, len(started) + 1)
        refused, wrote = ledger.lines("refused"), ledger.lines("wrote")
        run.figures |= {"refused": len(refused), "believed": len(believed(wrote))}

        assert monkey.count("stop") == STOPS
        assert len(refused) >= REFUSED
        assert believed(wrote) == set()
        assert verdict.wrong() == {}
        assert len(ledger.lines("call", long)) == 1
        assert not JobEvent.objects.filter(job_id=long.id).exists()
        assert {*codes, calm.wait()} == {0}


def test_without_the_fence_they_are_believed(
    zygotes: Zygotes, ledger: Ledger, audit: Audit, seed: int
) -> None:
    """The negative control: with writes by id alone, effects are doubled, and the checker sees it."""
    patches = f"{FENCE_OFF},{WATCH_WRITES}"
    zygote = zygotes(LEASE_SECONDS=LEASE, MAX_CRASHES=1000, env={PATCHES: patches})
    monkey = Monkey(Crew(zygote, WORKERS), seed)
    stops = sizes().pick(cut=3, full=10)
    with recorded("R3 fence off", seed=seed) as run:
        monkey.crew.wait_until_there()
        started = rage(storm(stops), monkey)
        with suppress(AssertionError):  # without the fence nothing is promised
            wait_until(lambda: not open_jobs(), timeout=10, what="the end of all jobs")
            monkey.crew.dismiss()
        verdict = check(gather(ledger, audit, monkey.faults), started=started, atomic=ATOMIC)
        fill_in(run, verdict, monkey, len(started))
        run.figures["believed"] = len(believed(ledger.lines("wrote")))

        assert monkey.count("stop") == stops
        assert believed(ledger.lines("wrote"))
        assert verdict.doubled
