"""Looking at a plan again and again, and acting. An edge: logs, the registry.

The rules: who watches does not stop watching; whatever keeps a look from succeeding, from then on nothing is seen, and what nobody sees for
long is stepped back from. Only a setting that could never have worked is raised, while nothing was seen yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from paretune.config import Config
from paretune.errors import ConfigError, ConflictError, ParetuneError, in_words
from paretune.experiment import stepping
from paretune.experiment.guarding import Memory
from paretune.experiment.watch import Sight, Situation, Step
from paretune.policy.registry import Registry

_TRIES = 3  # looks in a row, where other versions come into force meanwhile


@dataclass(frozen=True, slots=True)
class Look:
    """One look, and what was done."""

    situation: Situation
    step: Step
    sight: Sight  # after it
    at_s: float  # seconds since 1970
    became: int = 0  # version that came into force; 0 = nothing changed
    failure: Exception | None = None  # what kept it from seeing, or from doing what the step says

    @property
    def is_blind(self) -> bool:
        """Whether nothing was seen."""
        return self.sight.failed_s is not None


@dataclass
class Vigil:
    """Who looks; remembers what was counted, and when something was last seen."""

    logs: Path  # joined
    config: Config
    registry: Registry
    spool: Path | None  # of the service
    ramp_to: float  # largest share of users to ramp to by itself
    clock: Callable[[], float]  # seconds since 1970
    sight: Sight | None = None  # of an earlier vigil over the same plan; None begins with the first look
    memory: Memory = field(default_factory=Memory)
    has_seen: bool = field(init=False)  # some look succeeded, in this vigil or in the earlier one

    def __post_init__(self) -> None:
        self.has_seen = self.sight is not None

    def look(self, *, act: bool = True) -> Look:
        """Look once, and return what was seen and done; where another version came into force meanwhile, look again.

        Args:
            act: False only says what would be done.

        Raises:
            ConfigError: the settings are such that no look can succeed, and none did.
            ParetuneError: the registry does not answer, so that nothing is known of the plan, and nothing can be done.
        """
        tries = 0
        while True:
            tries += 1
            found, number = self._looked()
            if not act:
                return found
            try:
                became = stepping.acted(self.registry, found.step, number=number, situation=found.situation)
            except ConflictError as error:
                if tries == _TRIES:
                    return replace(found, failure=error)
            except (ParetuneError, OSError) as error:
                return replace(found, failure=error)
            else:
                return replace(found, became=became)

    def _looked(self) -> tuple[Look, int]:
        """Return what is seen and to be done, and the policy that would be ramped."""
        now_s = self.clock()
        before = Sight(now_s) if self.sight is None else self.sight
        try:
            situation, number, step = stepping.looked(
                self.logs, self.config, self.registry, spool=self.spool, ramp_to=self.ramp_to, now_s=now_s, memory=self.memory
            )
        except (Exception, pl.exceptions.PanicException) as error:  # broad: whatever keeps it from seeing, it does not see
            if isinstance(error, ConfigError) and not self.has_seen:
                raise
            self.sight = before.after(now_s, failed=True)
            situation, step = stepping.unseen(self.config, self.registry, sight=before, now_s=now_s, why=_said(error))
            failure = error if isinstance(error, Exception) else RuntimeError(_said(error))
            return Look(situation, step, self.sight, now_s, failure=failure), 0
        self.sight, self.has_seen = before.after(now_s, failed=False), True
        return Look(situation, step, self.sight, now_s), number


def _said(error: BaseException) -> str:
    if isinstance(error, ParetuneError):
        return str(error.args[0])
    return in_words(error) if isinstance(error, Exception) else f"{type(error).__name__}: {error}"
