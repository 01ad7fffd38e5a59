"""R1: workers are killed at random moments, and nothing is lost, doubled or out of order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from django.db import connection

from tests.chaos.checker import Verdict, check, percentile
from tests.chaos.evidence import Audit, gather
from tests.chaos.monkey import Crew, Monkey, Storm, open_jobs, rage
from tests.chaos.report import Run, recorded
from tests.chaos.sizes import sizes
from tests.chaos.zygote import Zygote
from tests.helpers import wait_until
from tests.process.ledger import Ledger
from tests.testapp.chaos import FENCE_OFF, PATCHES

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

LEASE = 2.0
WORKERS = 4
# The bar is lease + 1 s; a small run shares its two cores with whatever else a machine does.
RECOVERY = LEASE + sizes().pick(cut=5.0, full=1.0)
ATOMIC = frozenset({"second", "fourth"})
Zygotes = Callable[..., Zygote]


def storm() -> Storm:
    if connection.vendor == "sqlite":
        jobs, kills = sizes().pick(cut=(150, 4), full=(1000, 30))
        return Storm(jobs=jobs, kills=kills, sequence="chain3", pause=(0.1, 0.4))
    # Slow enough that the workers left can take over what each kill leaves them.
    pause = sizes().pick((0.02, 0.2), (0.05, 0.5))
    if connection.vendor == "mysql":
        jobs, kills = sizes().pick(cut=(150, 6), full=(1000, 40))
        return Storm(jobs=jobs, kills=kills, sequence="chain3", seconds=0.03, pause=pause)
    jobs, kills = sizes().pick(cut=(300, 8), full=(5000, 200))
    return Storm(jobs=jobs, kills=kills, seconds=0.03, pause=pause)


@pytest.fixture
def monkey(zygotes: Zygotes, ledger: Ledger, seed: int) -> Iterator[Monkey]:
    """A monkey and its crew; one worker of ten starts cold."""
    settings = {"LEASE_SECONDS": LEASE, "MAX_CRASHES": 1000}
    crew = Crew(
        zygotes(**settings),
        WORKERS,
        env=ledger.environment(POLL_INTERVAL=0.1, **settings),
        cold_every=sizes().pick(cut=0, full=10),
    )
    yield Monkey(crew, seed)
    crew.close()


def test_nothing_is_lost_or_doubled_when_workers_are_killed(
    monkey: Monkey, ledger: Ledger, audit: Audit, seed: int
) -> None:
    """Each job ends once, in order, with its effects once, and goes on soon after each kill."""
    chosen = storm()
    with recorded("R1", seed=seed) as run:
        monkey.crew.wait_until_there()
        started = rage(chosen, monkey)
        wait_until(lambda: not open_jobs(), timeout=180, what="the end of all jobs")
        codes = monkey.crew.dismiss()
        history = gather(ledger, audit, monkey.faults)
        verdict = check(history, started=started, atomic=ATOMIC)
        fill_in(run, verdict, monkey, len(started))

        assert monkey.count("kill") == chosen.kills
        assert len(started) == chosen.jobs
        assert verdict.losses >= chosen.kills, "the kills met workers that held nothing"
        assert verdict.wrong() == {}
        assert verdict.repeats <= verdict.losses
        assert verdict.recovery_p99 is not None
        assert verdict.recovery_p99 < RECOVERY
        assert set(codes) == {0}


def fill_in(run: Run, verdict: Verdict, monkey: Monkey, jobs: int) -> None:
    counts = {"kills": monkey.count("kill"), "stops": monkey.count("stop")}
    run.faults = {kind: count for kind, count in counts.items() if count}
    run.jobs = jobs
    run.lost, run.doubled = len(verdict.lost), len(verdict.doubled)
    run.out_of_order = len(verdict.out_of_order)
    run.recovery_p99 = verdict.recovery_p99
    run.figures |= {
        "broken_chains": len(verdict.broken_chains),
        "illegal_transitions": len(verdict.illegal),
        "unexplained_repeats": len(verdict.unexplained),
        "losses": verdict.losses,
        "repeats_of_plain_tasks": verdict.repeats,
        "rescue_p99": percentile(verdict.rescues, 0.99),
        "seconds_of_faults": round(monkey.faults[-1].at - monkey.faults[0].at, 1),
        "wrong": verdict.wrong(),
    }


# Of the small run on SQLite, whose writers wait for one another, test_zombies has the control.
if sizes().is_full or connection.vendor != "sqlite":

    def test_without_the_fence_the_same_loop_fails(
        zygotes: Zygotes, ledger: Ledger, audit: Audit, seed: int
    ) -> None:
        """The negative control: with writes by id alone, some worker that stood still is believed."""
        jobs, kills, stops = sizes().pick(cut=(120, 2, 4), full=(500, 10, 10))
        chosen = Storm(jobs=jobs, kills=kills, stops=stops, nap=1.5 * LEASE, seconds=0.02)
        zygote = zygotes(LEASE_SECONDS=LEASE, MAX_CRASHES=1000, env={PATCHES: FENCE_OFF})
        monkey = Monkey(Crew(zygote, WORKERS), seed)
        with recorded("R1 fence off", seed=seed) as run:
            monkey.crew.wait_until_there()
            started = rage(chosen, monkey)
            with suppress(AssertionError):  # without the fence nothing is promised
                wait_until(lambda: not open_jobs(), timeout=20, what="the end of all jobs")
                monkey.crew.dismiss()
            verdict = check(gather(ledger, audit, monkey.faults), started=started, atomic=ATOMIC)
            fill_in(run, verdict, monkey, len(started))

            assert monkey.count("stop") == stops
            assert verdict.doubled, (
                "the control has not shown that the checker can see doubled effects"
            )
