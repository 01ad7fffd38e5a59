"""How big a run is, and the seed of what is random in it.

`CHAOS=full` asks for the figures of the reliability bar, `CHAOS=cut` (the default) for a small run of
the same tests. `CHAOS_SEED=<number>` replays a run.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
NAMES = ("cut", "full")


@dataclass(frozen=True)
class Sizes:
    """One of the two sizes.

    >>> Sizes("cut").pick(cut=8, full=200)
    8
    """

    name: str

    @property
    def is_full(self) -> bool:
        """Whether the figures of the bar are asked for."""
        return self.name == "full"

    def pick(self, cut: T, full: T) -> T:
        """The one of two values that belongs to this size."""
        return full if self.is_full else cut


def sizes() -> Sizes:
    """The size that the environment's `CHAOS` asks for."""
    name = os.environ.get("CHAOS") or "cut"
    if name not in NAMES:
        raise ValueError(f"CHAOS is {name!r}, which is none of {NAMES}")
    return Sizes(name)


def new_seed() -> int:
    """The seed of one test: `CHAOS_SEED`, or a new one."""
    given = os.environ.get("CHAOS_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**31)
