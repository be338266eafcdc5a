"""Watching on and on: a guard that cannot see says so, freezes, and steps back; and `paretune guard` with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registries import ANNA
from served_plan import DAY_S, START, Served

from paretune.cli import main
from paretune.config import load_config
from paretune.errors import ConflictError, ForbiddenError, UnreachableError
from paretune.experiment import stepping
from paretune.experiment.vigil import Vigil
from paretune.experiment.watch import Sight

MINUTE_S = 60.0


def vigil_of(served: Served, **changes: Any) -> Vigil:
    return Vigil(**{
        "logs": served.logs, "config": served.config, "registry": served.registry, "spool": None, "ramp_to": 0.0,
        "clock": lambda: served.now, **changes,
    })  # fmt: skip


def hidden(served: Served) -> Path:
    """The log's folder moved away, as where a disk is not mounted."""
    return served.logs.rename(served.logs.with_name("elsewhere"))


def test_a_guard_that_cannot_read_its_log_freezes_and_then_steps_back(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    vigil = vigil_of(served)
    assert not vigil.look().is_blind
    away, begun, found = hidden(served), served.now, []
    for minutes in (1, 9, 11, 19, 21):
        served.now = begun + minutes * MINUTE_S
        found.append(vigil.look())
    assert [look.step.action for look in found] == ["keep", "keep", "hold", "hold", "kill"]
    assert all(look.is_blind and "no log at" in look.step.sentence for look in found)
    assert "no look succeeded for 21 minutes: nobody can see what it does" in found[-1].step.sentence
    plan, entry = served.registry.current(), served.registry.audit()[-1]
    assert plan is not None
    assert (plan.killed, found[-1].became, entry.who, entry.what) == (True, 2, "guardrails", "kill")
    assert "no look succeeded for 21 minutes" in json.loads(entry.detail)["note"]
    away.rename(served.logs)
    served.registry.release(by=ANNA)
    assert vigil.look().sight == Sight(served.now)


def test_a_spool_that_cannot_be_read_blinds_as_the_log_does(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "d.parquet").write_bytes(b"PAR1 torn")
    vigil = vigil_of(served, spool=spool, sight=Sight(served.now - 21 * MINUTE_S, served.now - 20 * MINUTE_S))
    assert vigil.look().step.action == "kill"


def test_one_failure_after_a_long_pause_freezes_before_it_steps_back(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    hidden(served)
    vigil = vigil_of(served, sight=Sight(served.now - 60 * MINUTE_S))
    assert vigil.look().step.action == "hold"
    served.now += MINUTE_S
    assert vigil.look().step.action == "kill"


def test_looks_that_succeed_in_between_begin_the_count_anew(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    vigil = vigil_of(served)
    vigil.look()
    for _ in range(3):
        away = hidden(served)
        served.now += 9 * MINUTE_S
        assert vigil.look().step.action == "keep"
        away.rename(served.logs)
        served.now += 9 * MINUTE_S
        assert not vigil.look().is_blind


def test_a_plan_that_is_young_is_not_stepped_back_from_for_what_was_not_seen_before_it(tmp_path: Path) -> None:
    served = Served(tmp_path, days=1)
    hidden(served)
    served.registry.ramp(1, share=0.6, by=ANNA)
    served.now += 5 * MINUTE_S
    sight = Sight(served.now - 600 * MINUTE_S, served.now - 500 * MINUTE_S)
    assert vigil_of(served, sight=sight).look().step.action == "keep"


@pytest.mark.parametrize("fault", [ValueError("odd"), KeyError("ts")])
def test_whatever_keeps_it_from_seeing_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    served = Served(tmp_path, days=1)

    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("paretune.experiment.stepping.seen_of", fails)
    look = vigil_of(served).look()
    assert (look.is_blind, look.failure) == (True, fault)
    assert type(fault).__name__ in look.step.sentence


def test_another_version_that_came_while_it_looked_is_looked_at_and_not_acted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(tmp_path, factor=1.9)
    real, seen = stepping.looked, []

    def meanwhile(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        seen.append(found[0].version)
        if len(seen) == 1:
            served.registry.ramp(1, share=0.01, by=ANNA)  # a person was faster, and less is served now
        return found

    monkeypatch.setattr(stepping, "looked", meanwhile)
    look = vigil_of(served).look()
    assert (seen, look.step.action, look.became) == ([1, 2], "keep", 0)
    assert served.registry.version() == 2


def test_a_guard_that_is_always_too_late_gives_up_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(tmp_path, factor=1.9)

    def refused(*_: object, **__: object) -> int:
        raise ConflictError("another plan came into force")

    monkeypatch.setattr(stepping, "acted", refused)
    look = vigil_of(served).look()
    assert (look.step.action, look.became, look.is_blind) == ("kill", 0, False)
    assert isinstance(look.failure, ConflictError)


class Sleeping:
    """In place of time.sleep: turns the clock, and interrupts after so many naps."""

    def __init__(self, served: Served, naps: int, *, then: Callable[[int], None] = lambda _: None) -> None:
        self.served, self.naps, self.slept, self.then = served, naps, [], then  # type: ignore[var-annotated]

    def __call__(self, seconds: float) -> None:
        """Sleep."""
        self.slept.append(seconds)
        self.served.now += seconds
        self.then(len(self.slept))
        if len(self.slept) == self.naps:
            raise KeyboardInterrupt


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sleeping]:
    """Put the command's clock into a test's hands."""

    def put(served: Served, naps: int, **options: Any) -> Sleeping:
        sleeping = Sleeping(served, naps, **options)
        monkeypatch.setattr("paretune.commands.guard.time.sleep", sleeping)
        monkeypatch.setattr("paretune.commands.guard.time.time", lambda: served.now)
        return sleeping

    return put


def test_what_cannot_be_done_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: Callable[..., Sleeping], capsys: pytest.CaptureFixture[str]
) -> None:
    served = Served(tmp_path, days=1)

    def refused(*_: object, **__: object) -> int:
        raise ForbiddenError("policy 1 is not approved", hint="approve it")

    monkeypatch.setattr(stepping, "acted", refused)
    assert main(served.words) == 4  # a single look says so
    sleeping = turned(served, 2)
    main([*served.words, "--every-s", "7"])
    assert sleeping.slept == [7, 7]
    assert capsys.readouterr().err.count("this look failed, the next is in 7 s: policy 1 is not approved") == 2


def test_a_registry_that_is_away_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: Callable[..., Sleeping], capsys: pytest.CaptureFixture[str]
) -> None:
    served = Served(tmp_path, days=1)

    def away(*_: object, **__: object) -> None:
        raise UnreachableError("the registry does not answer")

    monkeypatch.setattr("paretune.policy.registry.Registry.current", away)
    assert main(served.words) == 5
    turned(served, 2)
    main([*served.words, "--every-s", "7"])
    assert capsys.readouterr().err.count("nothing is known of the plan, the next look is in 7 s") == 2


def test_the_watch_steps_back_by_itself_when_its_log_goes_away_and_leaves_it_in_the_status(
    tmp_path: Path, turned: Callable[..., Sleeping], capsys: pytest.CaptureFixture[str]
) -> None:
    served, status = Served(tmp_path, days=1), tmp_path / "guard.json"
    turned(served, 6, then=lambda nap: hidden(served) if nap == 1 else None)
    main([*served.words, "--every-s", "300", "--status", str(status)])
    told = json.loads(status.read_bytes())
    assert (told["action"], told["plan"], told["became"]) == ("kill", 1, 2)
    assert (told["saw_us"], told["at_us"]) == (1e6 * (START + DAY_S), 1e6 * (START + DAY_S + 5 * 300))
    assert "no log at" in told["failed"]
    out = capsys.readouterr().out
    assert "kill: no look succeeded for 25 minutes: nobody can see what it does" in out
    assert served.registry.version() == 2


def test_cron_counts_failed_looks_in_the_status_file(
    tmp_path: Path, turned: Callable[..., Sleeping], capsys: pytest.CaptureFixture[str]
) -> None:
    served, status = Served(tmp_path, days=1), tmp_path / "guard.json"
    turned(served, 1)
    words = [*served.words, "--status", str(status)]
    assert main(words) == 0
    hidden(served)
    codes = []
    for _ in range(3):
        served.now += 8 * MINUTE_S
        codes.append(main(words))
    assert codes == [3, 4, 4]  # cannot read; holds; stepped back
    assert served.registry.version() == 2
    assert main(served.words) == 0
    status.write_bytes(b'{"saw_us": NaN}')
    served.registry.release(by=ANNA)
    assert main(words) == 3
    assert "does not say when something was last seen" in capsys.readouterr().err


def test_a_setting_that_can_never_work_is_an_error_at_once(tmp_path: Path, turned: Callable[..., Sleeping]) -> None:
    served = Served(tmp_path, days=1)
    text = (tmp_path / "paretune.toml").read_text(encoding="utf-8")
    assert '\nts = "ts"' in text
    (tmp_path / "paretune.toml").write_text(text.replace('\nts = "ts"', '\nts = "when"'), encoding="utf-8")
    sleeping = turned(served, 1)
    assert main([*served.words, "--every-s", "7"]) == 2
    assert not sleeping.slept
    changed = load_config(tmp_path / "paretune.toml")  # while somebody watched already, it is one more thing that keeps it from seeing
    assert vigil_of(served, config=changed, sight=Sight(served.now)).look().is_blind
