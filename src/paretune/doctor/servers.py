"""Whether servers answer: the registry, Redis, decision services. An edge: the network, the database, the clock, threads.

The rule: all are asked at once, each on a thread of its own that is given up at the deadline, so that the whole takes no longer than that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, text

from paretune.doctor.finding import NOTE, OK, WARNING, Finding, failed, shown
from paretune.doctor.machine import clock_against, permissions
from paretune.errors import ConfigError, ParetuneError, UnreachableError
from paretune.extras import missing

_LATE_S = 0.5  # that a thread may need to notice its own deadline
_START = "start it, or name another address"


@dataclass(frozen=True, slots=True)
class Question:
    """One server to be asked."""

    part: str
    name: str  # as it is shown
    ask: Callable[[float], list[Finding]]  # deadline -> what was found


def ask(questions: Sequence[Question], *, deadline_s: float) -> list[Finding]:
    """Return what servers answer, in the order of the questions.

    Args:
        questions: all asked at the same time.
        deadline_s: of each.
    """
    answers: dict[int, list[Finding]] = {}
    threads = [threading.Thread(target=_asked, args=(answers, i, each, deadline_s), daemon=True) for i, each in enumerate(questions)]
    until = time.monotonic() + deadline_s + _LATE_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = {i: [failed(each.part, each.name, _late(each.name, deadline_s))] for i, each in enumerate(questions) if i not in answers}
    return [finding for i in range(len(questions)) for finding in (answers.get(i) or late.get(i) or [])]


def registry(where: str, *, named: bool) -> Question:
    """Return the question to a registry: is it there, what is in force, does its clock agree.

    Args:
        where: an SQLite file, or a URL.
        named: somebody named it, so that it has to be there.
    """

    def asked(deadline_s: float) -> list[Finding]:
        from paretune.policy.database import Database

        database = Database(where, deadline_s=deadline_s, read_only=True)
        try:
            if database.is_sqlite and not Path(str(database.url.database)).exists():
                none = f"there is no registry at {shown(where)}"
                hint = "make one with `paretune publish RUN POLICY`"
                if named:
                    raise ConfigError(none, hint=hint)
                return [Finding("registry", shown(where), NOTE, none, hint)]
            found = [_in_force(database.read(_looked_up), shown(where))]
            if database.is_sqlite:
                return found + list(permissions(Path(str(database.url.database))))
            now = float(
                database.read(lambda connection: connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
            )
            return [*found, clock_against("registry", "its clock", now)]
        finally:
            database.close()

    return Question("registry", shown(where), asked)


def stream(url: str) -> Question:
    """Return the question to Redis: does it answer, how long is the stream, does its clock agree."""

    def asked(deadline_s: float) -> list[Finding]:
        from paretune.serving.streams import place_of

        place = place_of(url)
        client, errors = _redis(place.url, deadline_s)
        try:
            length, (seconds, microseconds) = client.xlen(place.stream), client.time()
        except errors as error:
            raise UnreachableError(f"{shown(url)} does not answer: {error}", hint=_START) from error
        finally:
            client.close()
        return [
            Finding("redis", shown(url), OK, f"answers; {length:,} decisions in the stream {place.stream}"),
            clock_against("redis", "its clock", seconds + microseconds / 1e6),
        ]

    return Question("redis", shown(url), asked)


def service(url: str) -> Question:
    """Return the question to a decision service: is it ready, which plan does it follow, what does it complain of."""

    def asked(deadline_s: float) -> list[Finding]:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{shown(url)!r} is no address of a service", hint="give e.g. http://127.0.0.1:8077")
        try:
            answer = httpx.get(f"{url.rstrip('/')}/readyz", timeout=deadline_s)
            told = answer.json()
            ready, plan, problems = bool(told["ready"]), int(told["plan"]), [str(problem) for problem in told["problems"]]
        except httpx.HTTPError as error:
            raise UnreachableError(f"{shown(url)} does not answer: {error}", hint=_START) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UnreachableError(f"{shown(url)} is no decision service: it answers {answer.status_code}", hint=_START) from error
        said = f"{'ready' if ready else 'not ready'}, follows plan {plan}" if plan else "serves the static weights: it has no plan yet"
        if problems:
            return [Finding("service", shown(url), WARNING, f"{said}; {'; '.join(problems)}", "see docs/serving.md, what can go wrong")]
        return [Finding("service", shown(url), OK if ready else NOTE, said)]

    return Question("service", shown(url), asked)


def _asked(answers: dict[int, list[Finding]], i: int, question: Question, deadline_s: float) -> None:
    try:
        answers[i] = question.ask(deadline_s)
    except ParetuneError as error:
        answers[i] = [failed(question.part, question.name, error)]
    except Exception as error:  # noqa: BLE001  broad: whatever a server makes a library raise is told of that server, and the others are heard
        wrong = UnreachableError(f"{question.name} answers oddly: {type(error).__name__}: {error}", hint=_START)
        answers[i] = [failed(question.part, question.name, wrong)]


def _late(name: str, deadline_s: float) -> UnreachableError:
    return UnreachableError(f"{name} did not answer within {deadline_s:g} s", hint="see whether it is up and can be reached from here")


def _looked_up(connection: Connection) -> tuple[str, int, bool]:
    """Return the version of the tables, that of the plan in force (0 = none), and whether it is killed."""
    from paretune.policy import rows

    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    plan = rows.current_plan(connection)
    return str(revision), plan.version if plan else 0, bool(plan and plan.killed)


def _in_force(found: tuple[str, int, bool], name: str) -> Finding:
    from paretune.policy.tables import HEAD

    revision, plan, killed = found
    said = f"answers; plan {plan} is in force{', killed' if killed else ''}" if plan else "answers; no plan is in force yet"
    if revision > HEAD:
        return Finding("registry", name, WARNING, f"{said}; its tables are of a later release ({revision})", "use that release")
    if revision < HEAD:
        hint = "the next command that changes something brings them up to date"
        return Finding("registry", name, NOTE, f"{said}; its tables are of an earlier release ({revision})", hint)
    return Finding("registry", name, OK, said)


def _redis(url: str, deadline_s: float) -> tuple[Any, type[Exception]]:
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise missing("redis", "asking Redis", error) from error
    client = redis.Redis.from_url(url, socket_timeout=deadline_s, socket_connect_timeout=deadline_s, retry=Retry(NoBackoff(), 0))
    return client, redis.RedisError


def folders_of(where: str) -> Iterator[Path]:
    """Yield the folder of a registry that is a file."""
    from paretune.policy.database import registry_url

    url = registry_url(where)
    if url.get_backend_name() == "sqlite":
        yield Path(str(url.database)).parent
