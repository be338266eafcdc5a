"""The decision inside the ranker's own latency: always weights, always in time. An edge: the clock, threads, plan and bundle files.

    received ── coin(request) ── EXPLORE: drawn from the plan's levels
             └─ arm(user) ────── STATIC: fixed weights, or POLICY: what the model answers before the deadline

The rules: `decide` raises nothing and waits for nothing past its deadline; whatever goes wrong is served the static weights and says what
it was; a fallback is never exploration. A decision reads what is in force once. Versions only go up: going back is the older content,
published as a later version.

What the deadline can promise: the model runs on a thread of its own and the caller stops waiting. A model that holds Python's lock in
compiled code holds the caller too; ONNX Runtime and numpy's matrix products let go of it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from paretune.errors import ArtefactError, ConfigError, ParetuneError
from paretune.policy.plan import Plan, checked
from paretune.records import PRODUCTION, Floats
from paretune.serving.arms import hash_id, mixture_action, stratum_of, uniform_action
from paretune.serving.decide import Decision, Id, Reason, Request
from paretune.serving.health import RuntimeState
from paretune.serving.limits import Breaker
from paretune.serving.scoring import FeatureError, Scorer
from paretune.serving.snapshot import Exploring, Model, Route, Snapshot, asked, asked_all, compiled, without_plan
from paretune.serving.sources import BundleFolder, BundleFolders, LastKnownGood, PlanFile
from paretune.serving.workers import BusyError, LateError, Workers, renewed_after_fork

DEADLINE_S = 0.010
_HOUR_US = 3_600_000_000
_LONGEST_DETAIL = 200  # characters
_OVER_CAPACITY = "over capacity"
_LONGEST_ID = 4096  # characters


class _NoAnswer(Exception):
    """A model's answer is not to be had, and why."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Runtime:
    """Decides, for as many threads as call it."""

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        plan: Plan | None,
        *,
        static: tuple[tuple[str, ...], tuple[float, ...]] | None = None,
        deadline_s: float | None = DEADLINE_S,
        threads: int = 8,
        strict_cohorts: bool = False,
        process: str = "",
        load: Callable[[str], Scorer] | None = None,
        keep: Callable[[Plan], None] | None = None,
        breaker: Callable[[], Breaker] = Breaker,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Put a plan in force.

        Args:
            scorers: bundles by fingerprint. An arm whose bundle is missing or does not fit is served the static weights.
            plan: None until there is one.
            static: heads and weights that are served while there is no plan; needed only then.
            deadline_s: for the whole decision; None lets the model run in the caller's thread for as long as it likes (offline use).
            threads: of the model at most; so many callers can wait at once, the next ones are answered `FALLBACK:overload`.
            strict_cohorts: an arm that has scalarisations per cohort falls back for any other cohort that a request names. By default
                such requests are served the arm's scalarisation for everybody.
            process: told apart from other processes in the blocked design; by default random.
            load: brings a bundle by fingerprint when a plan needs one that is not here, or raises an error of paretune.
            keep: told of every plan after it came into force, e.g. to keep it as last known good.
            breaker: makes the breaker of each bundle.
            clock: monotonic seconds.
            wall: seconds since 1970; only for the hour of blocked exploration where a request has no time of its own.

        Raises:
            ConfigError: there is neither a plan nor static weights, or the plan breaks a rule.
        """
        if plan is None and (static is None or not static[1] or len(static[0]) != len(static[1])):
            raise ConfigError("a runtime without a plan has no weights to serve", hint="give a plan, or static=(heads, weights)")
        self.deadline_s, self.strict_cohorts = deadline_s, strict_cohorts
        self._process = process or secrets.token_hex(8)
        self._load, self._keep, self._breaker, self._clock, self._wall = load, keep, breaker, clock, wall
        self._scorers = dict(scorers)
        self._switching, self._drawing = threading.Lock(), threading.Lock()
        self._problems: dict[str, str] = {}
        self._workers = None if deadline_s is None else Workers(threads)
        if plan is not None:
            self._snapshot = self._compiled(checked(plan), None)
        elif static is not None:
            self._snapshot = without_plan(*static)
        renewed_after_fork(self)

    @classmethod
    def load(
        cls,
        bundles: Path,
        plan: Path,
        *,
        state_dir: Path | None = None,
        load: Callable[[Path], Scorer] | None = None,
        static: tuple[tuple[str, ...], tuple[float, ...]] | None = None,
        **options: Any,
    ) -> Self:
        """Return a runtime with the newest plan that can be followed whole: the file's, or else the last known good one.

        Args:
            bundles: a bundle, or a folder of bundles.
            plan: file; it may be missing, or torn, where there is a last known good one.
            state_dir: of the last known good plan and its bundles, local to this machine; None keeps none.
            load: reads a bundle's folder; by default `serving.bundle.load_bundle`.
            static: heads and weights, should there be no plan at all.
            options: of the constructor.

        Raises:
            ConfigError: there is no plan that can be read, none was kept, and no static weights are given.
        """
        source, kept = PlanFile(Path(plan)), None if state_dir is None else LastKnownGood(Path(state_dir), Path(bundles))
        places = BundleFolders(*(BundleFolder(each, load=load) for each in (Path(bundles), *([kept.bundles] if kept else []))))
        told = source.poll()
        found = [each for each in (told, kept.plan() if kept else None) if each is not None]
        found.sort(key=lambda each: each.version, reverse=True)
        loaded: dict[str, Scorer] = {}
        problems, best = [], found[0] if found else None
        for each in found:
            failed = places.bring(each, loaded)
            problems += failed
            if not failed:
                best = each
                break
        if best is None and static is None:
            raise ConfigError(
                f"no plan to serve: {source.problem or plan}", hint="write one with `paretune plan`, or give static weights to start with"
            )
        keep = kept.keep if kept else None
        runtime = cls(loaded, best, static=static, load=places, keep=keep, **options)
        if told is not None and best is not None and told.version < best.version:
            problems.append(f"{plan} holds plan {told.version}, older than plan {best.version}, which was in force here")
        runtime.note(source.subject, source.problem)
        runtime.note(source.switching, "; ".join(problems))
        if best is not None and not runtime._snapshot.problems:
            runtime._kept(best)
        return runtime

    def decide(self, request: Request, *, received: float | None = None, admit: bool = True) -> Decision:
        """Return the weights of a request; never an error, never later than the deadline plus a wake-up.

        A budget that is spent before the model is asked ends in `FALLBACK:timeout`; what asks no model is answered all the same.

        Args:
            request: whatever arrived.
            received: when it did, as the clock tells it; the budget counts from there. None = now.
            admit: False where the caller knows that there is no time for a model: a request that needs one is answered at once with
                `FALLBACK:overload`; fixed weights and uniform exploration, which need none, are served as ever.
        """
        snapshot, now = self._snapshot, self._clock()
        start = now
        try:
            if received is not None and received < now:  # a time of receipt in the future, or none at all, gives no longer budget
                start = received
            return self._decided(snapshot, request, start, admit)
        except _NoAnswer as failure:
            return self._fallback(snapshot, request, start, failure.reason, failure.detail)
        except Exception as error:  # noqa: BLE001  (broad: on the serving path; a request that nobody foresaw is still answered)
            return self._fallback(snapshot, request, start, Reason.BAD_INPUT, _said(error))

    def switch(self, plan: Plan) -> bool:
        """Put a later plan in force and return whether anything changed; decisions go on meanwhile, each by one plan.

        Bundles that the plan needs are loaded and tried before the switch. The version in force, given again, changes nothing.

        Raises:
            ConfigError: the plan breaks a rule, or is older than the one in force, or another of the same version.
            ArtefactError: a bundle cannot be loaded, or does not fit the plan; what was in force stays.
        """
        plan = checked(plan)
        with self._switching:
            before = self._snapshot
            if plan.version <= before.version and before.plan is not None:
                if plan == before.plan and not before.problems:
                    return False
                if plan != before.plan:
                    raise ConfigError(
                        f"plan {plan.version} is not newer than plan {before.version}, which is in force",
                        hint="to go back, publish the older content as a later version: `paretune plan --previous`",
                    )
            for fingerprint in () if plan.killed else plan.bundles:
                if fingerprint not in self._scorers:
                    if self._load is None:
                        raise ArtefactError(f"bundle {fingerprint[:12]} is not here", hint="build the runtime with this bundle as well")
                    self._scorers[fingerprint] = self._load(fingerprint)
            after = self._compiled(plan, before)
            if after.problems:
                raise ArtefactError("; ".join(after.problems), hint="publish a plan that fits its bundles")
            self._snapshot = after
            needed = {*plan.bundles, *(before.plan.bundles if before.plan else ())}  # the plan before stays ready for a way back
            self._scorers = {fingerprint: scorer for fingerprint, scorer in self._scorers.items() if fingerprint in needed}
            self._problems.clear()
            self._kept(plan)
        return True

    def state(self) -> RuntimeState:
        """Return what is in force and what is wrong."""
        snapshot = self._snapshot
        return RuntimeState(
            plan=snapshot.version,
            fingerprint=snapshot.plan.fingerprint if snapshot.plan else "",
            killed=bool(snapshot.plan and snapshot.plan.killed),
            bundles=tuple(snapshot.models),
            breakers={fingerprint: model.breaker.name for fingerprint, model in snapshot.models.items()},
            threads=self._workers.threads if self._workers else 0,
            busy=self._workers.busy if self._workers else 0,
            problems=(*reversed([*self._problems.values()]), *snapshot.problems),
            unmet=snapshot.problems,
        )

    @property
    def plan(self) -> Plan | None:
        """The plan in force."""
        return self._snapshot.plan

    def note(self, subject: str, problem: str) -> None:
        """Show a problem of a plan's source in `state`, until the next switch or until it is noted as solved ("")."""
        if problem:
            self._problems[subject] = problem
        else:
            self._problems.pop(subject, None)

    def close(self) -> None:
        """End the model's threads; decisions are served `FALLBACK:overload` where they need a model."""
        if self._workers is not None:
            self._workers.close()

    def renew(self) -> None:
        """Begin anew in a forked process: blocks of its own, no lock that a thread of the parent holds."""
        self._process = f"{self._process}/{secrets.token_hex(4)}"
        self._switching, self._drawing = threading.Lock(), threading.Lock()
        if self._snapshot.plan is not None:
            self._snapshot = self._compiled(self._snapshot.plan, self._snapshot)

    def _compiled(self, plan: Plan, before: Snapshot | None) -> Snapshot:
        return compiled(plan, self._scorers, process=self._process, before=before, breaker=self._breaker)

    def _kept(self, plan: Plan) -> None:
        try:
            if self._keep is not None:
                self._keep(plan)
                self.note("keep", "")
        except (OSError, ParetuneError) as error:  # a full disk stops no switch
            self.note("keep", f"plan {plan.version} is in force, and could not be kept as last known good: {error}")

    def _decided(self, snapshot: Snapshot, request: Request, start: float, admit: bool) -> Decision:
        if snapshot.default is None:
            raise _NoAnswer(Reason.NO_PLAN)
        route = snapshot.default if snapshot.users is None else snapshot.route(_hashed(request.user))
        exploring = snapshot.exploring
        if exploring is not None:
            hashed = _hashed(request.request_id)
            if exploring.split.part(hashed) == 0:
                explored = self._explored(snapshot, exploring, request, hashed, route, start, admit)
                if explored is not None:
                    return explored
        if route is None or not route.is_policy:
            served = route or Route("static", snapshot.static, PRODUCTION)
            return self._decision(snapshot, request, start, served.weights, served.action, served.name, Reason.STATIC)
        model = route.model
        if model is None:
            raise _NoAnswer(Reason.NO_MODEL, route.problem)
        if not admit:  # the same as from `_answer`, at a third of the time; over capacity that is what decides
            return self._decision(snapshot, request, start, snapshot.static, 0, route.name, Reason.OVERLOAD, 1.0, _OVER_CAPACITY)
        scalarisation = self._scalarisation(route, request.cohort)
        choice = self._answer(model, partial(asked, model.scorer, request.features, scalarisation), request, start, admit)
        action = int(choice.action)
        return self._decision(snapshot, request, start, model.table[action], action, route.name, Reason.POLICY)

    def _explored(
        self, snapshot: Snapshot, exploring: Exploring, request: Request, hashed: int, route: Route | None, start: float, admit: bool
    ) -> Decision | None:
        """Return the decision of a request in the exploration slice, None where the cap is used up."""
        grid, cohort = len(exploring.levels) - 1, request.cohort
        if exploring.bucket is not None:
            with self._drawing:
                if not exploring.bucket.take(self._clock()):
                    return None
        propensity = 1 / grid
        if exploring.blocks is not None:
            seen_us = request.time_us if isinstance(request.time_us, int) else int(self._wall() * 1e6)
            stratum = stratum_of(cohort if isinstance(cohort, str) else "", seen_us // _HOUR_US)
            with self._drawing:
                action = exploring.blocks.draw(stratum)
        elif exploring.design == "stage2":
            if exploring.model is None:
                raise _NoAnswer(Reason.NO_MODEL, exploring.problem)
            ask = partial(asked_all, exploring.model.scorer, request.features, exploring.family)
            choices = self._answer(exploring.model, ask, request, start, admit)
            action, propensity = mixture_action(hashed, exploring.draw_key, choices, actions=grid, floor=exploring.floor)
        else:
            action = uniform_action(hashed, exploring.draw_key, actions=grid)
        name = route.name if route else ""
        return self._decision(snapshot, request, start, exploring.levels[action], action, name, Reason.EXPLORE, propensity)

    def _scalarisation(self, route: Route, cohort: Any) -> Floats:
        if cohort is None:
            return route.scalarisation
        if not isinstance(cohort, str):
            raise _NoAnswer(Reason.UNKNOWN_COHORT, f"a cohort is a text, not {type(cohort).__name__}")
        found = route.cohorts.get(cohort)
        if found is None:
            if self.strict_cohorts and route.cohorts:
                raise _NoAnswer(Reason.UNKNOWN_COHORT, cohort)
            return route.scalarisation
        return found

    def _answer(self, model: Model, ask: Callable[[], Any], request: Request, start: float, admit: bool) -> Any:
        """Return what the model says before the deadline.

        Raises:
            _NoAnswer: it says nothing that can be served.
        """
        if not admit:
            raise _NoAnswer(Reason.OVERLOAD, _OVER_CAPACITY)
        if not isinstance(request.features, Mapping):
            raise _NoAnswer(Reason.BAD_INPUT, f"features are a {type(request.features).__name__}, not a mapping")
        now, breaker = self._clock(), model.breaker
        left = None
        if self.deadline_s is not None:
            left = self.deadline_s - (now - start)
            if left <= 0:
                raise _NoAnswer(Reason.TIMEOUT, "the budget was spent before the model was asked")
        if not breaker.allows(now):
            raise _NoAnswer(Reason.OVERLOAD, "the model's breaker is open")
        try:
            answer = ask() if left is None or self._workers is None else self._workers.call(ask, left)
        except LateError:
            if left is not None and left > 0.5 * (self.deadline_s or 0.0):  # else the budget was spent elsewhere
                breaker.failed(self._clock())
            else:
                breaker.unheard(self._clock())
            raise _NoAnswer(Reason.TIMEOUT) from None
        except BusyError:
            breaker.unheard(now)
            raise _NoAnswer(Reason.OVERLOAD, "every model thread is busy") from None
        except FeatureError as error:
            breaker.unheard(now)
            reason = Reason.MISSING_FEATURES if error.missing else Reason.BAD_INPUT
            raise _NoAnswer(reason, error.feature or str(error.args[0])) from None
        except Exception as error:  # noqa: BLE001  (broad: a model may raise anything, and the request is answered all the same)
            breaker.failed(self._clock())
            raise _NoAnswer(Reason.MODEL_ERROR, _said(error)) from None
        breaker.succeeded()
        return answer

    def _decision(
        self,
        snapshot: Snapshot,
        request: Request,
        start: float,
        weights: tuple[float, ...],
        action: int | None,
        arm: str,
        reason: Reason,
        propensity: float = 1.0,
        detail: str = "",
    ) -> Decision:
        took = self._clock() - start
        return Decision(request.request_id, weights, action, arm, snapshot.version, propensity, reason, detail, took, snapshot.heads)

    def _fallback(self, snapshot: Snapshot, request: Request, start: float, reason: Reason, detail: str) -> Decision:
        arm, request_id = "", getattr(request, "request_id", "")
        with suppress(Exception):  # broad: the same request has just been more than the code could take
            arm = getattr(snapshot.route(_hashed(request.user)), "name", "")
        elapsed_s = self._clock() - start
        said = detail[:_LONGEST_DETAIL]
        return Decision(request_id, snapshot.static, PRODUCTION, arm, snapshot.version, 1.0, reason, said, elapsed_s, snapshot.heads)


def _hashed(value: Id) -> int:
    """Return the hash of an id that is short enough to be hashed in no time."""
    if isinstance(value, str) and len(value) > _LONGEST_ID:
        raise ValueError(f"an id of {len(value)} characters")
    return hash_id(value)


def _said(error: Exception) -> str:
    """Return what an error says; some cannot even say that."""
    with suppress(Exception):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
