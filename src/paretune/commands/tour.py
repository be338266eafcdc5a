"""The end of `paretune demo --console`: the console on the demo's front, a decision service, and simulated visitors. An edge: the terminal,
HTTP, processes, threads.

The rule: everything here is what users start by themselves (`publish`, `account add`, `serve`, `console`); only the visitors are made up.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from paretune.commands.output import remark, say
from paretune.commands.registered import WHERE

if TYPE_CHECKING:
    import httpx
    import numpy as np

    from paretune.console.accounts import Accounts
    from paretune.policy.registry import Registry
    from paretune.serving.decide import Decision, Request
    from paretune.sim.world import World

AUTHOR = "the demo"
PEOPLE = (("otto", "operator"), ("bert", "approver"))
PICKS = ("constrained", "knee")
VISITORS_PER_S = 60
_ASKED = ("request_id", "user", "features", "cohort", "session", "time_us")
_ANSWERED = ("request_id", "action", "arm", "plan", "propensity")
_BATCH_S = 0.5  # visitors are sent together so often


def tour(folder: Path, *, world: str, setting: str, seed: int, data: Path | None, objectives: int, host: str = "127.0.0.1") -> None:
    """Publish the demo's picks and serve the console until interrupted.

    Args:
        folder: of the demo's run; the registry lies there too.
        world: of the visitors, as the demo had it.
        setting: of the world.
        seed: of the world.
        data: folder of the KuaiRand files.
        objectives: of the world.
        host: address to listen on.

    Raises:
        ConfigError: the run puts nothing forward that could be published, or there is no such world.
        ArtefactError: the run was altered.
        UnreachableError: the registry does not answer.
    """
    from paretune.commands.console import run_app
    from paretune.console.accounts import Accounts
    from paretune.console.api import control_app
    from paretune.console.traffic import Traffic
    from paretune.policy.registry import Registry
    from paretune.sim import open_world

    place = folder / WHERE
    registry = Registry(place)
    front = publish_picks(folder, registry)
    accounts = Accounts(registry.database)
    password = sign_in_names(accounts)
    console, service = free_port(host), free_port(host)
    feed = open_world(world, setting=setting, seed=seed, data=data, objectives=objectives)
    with serving(str(place), folder, folder, host, service) as address, visiting(feed, address):
        traffic = Traffic([address])
        traffic.start()
        page = f"http://{host}:{console}/fronts/{front}"
        say(f"console: {page}")
        for name, role in PEOPLE:
            say(f"  sign in as {name} ({role}), password {password}")
        remark("choose with otto, approve with bert, activate with otto; look at Live. Ctrl-C ends all of it")
        sys.stdout.flush()
        threading.Timer(1.0, webbrowser.open, [page]).start()
        run_app(control_app(registry, accounts, secure=False, traffic=traffic), host, console)
        traffic.close()
    registry.close()


def publish_picks(folder: Path, registry: Registry) -> str:
    """Publish the demo's picks, each once, and return the front's fingerprint."""
    from paretune.commands.publish import published
    from paretune.errors import ConflictError
    from paretune.frontier.archive import load_front

    labels = {pick.label: pick.policy for pick in load_front(folder).picks}
    known: set[int] = set()
    for label in PICKS:
        if label in labels and labels[label] not in known:
            known.add(labels[label])
            try:
                published(folder, label, registry, by=AUTHOR)
            except ConflictError:  # by an earlier tour
                continue
    return registry.fronts()[0].fingerprint


def sign_in_names(accounts: Accounts) -> str:
    """Make the people of the tour, or give them a new password, and return it."""
    from paretune.console.access import Role

    password, known = secrets.token_urlsafe(12), {account.name for account in accounts.all()}
    for name, role in PEOPLE:
        if name in known:
            accounts.set_password(name, password, by=AUTHOR)
        else:
            accounts.add(name, Role(role), password, by=AUTHOR)
    return password


@contextmanager
def serving(registry: str, run: Path, folder: Path, host: str, port: int, *, deadline_ms: float = 50.0) -> Iterator[str]:
    """Run a decision service that follows a registry, and give its address.

    Args:
        registry: its place.
        run: folder whose configuration names the features.
        folder: for the service's own files.
        host: address to listen on.
        port: to listen on.
        deadline_ms: of a decision.
    """
    words = ["serve", "--registry", registry, "--mirror", str(folder / "served"), "--config", str(run / "config.toml")]
    words += ["--host", host, "--port", str(port), "--deadline-ms", f"{deadline_ms:g}"]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "paretune", *words], stdout=log, stderr=log)  # noqa: S603
        try:
            yield f"http://{host}:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def visiting(world: World, address: str) -> Iterator[None]:
    """Have simulated users visit a decision service, from a thread of their own."""
    stopped = threading.Event()
    thread = threading.Thread(target=_visit, args=(world, address, stopped), name="visitors", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(5)


def _visit(world: World, address: str, stopped: threading.Event) -> None:
    import httpx

    from paretune.sim.operated import operate

    sessions = int(VISITORS_PER_S * _BATCH_S)
    with suppress(httpx.HTTPError), httpx.Client(base_url=address, headers={"content-type": "application/msgpack"}, timeout=5.0) as client:
        for day in range(28, 10_000):
            waves = operate(world, _asking(client, stopped), days=range(day, day + 1), sessions_per_day=sessions, rng=_draws)
            for _ in waves:
                if stopped.wait(_BATCH_S):
                    return


def _draws(day: int) -> np.random.Generator:
    from paretune.seeds import stream

    return stream(0, "tour", day)


def _asking(client: httpx.Client, stopped: threading.Event) -> Callable[[Sequence[Request]], Sequence[Decision]]:
    """Return what asks the service, as a ranker would; while it does not answer, nobody visits."""
    import httpx
    import msgspec

    from paretune.serving.decide import Decision, Reason

    def decide(requests: Sequence[Request]) -> Sequence[Decision]:
        asked = [{name: getattr(one, name) for name in _ASKED} for one in requests]
        while True:
            try:
                answer = client.post("/v1/decide/batch", content=msgspec.msgpack.encode({"requests": asked})).raise_for_status()
                break
            except httpx.HTTPError:
                if stopped.wait(_BATCH_S):
                    raise
        told = msgspec.msgpack.decode(answer.content)["decisions"]
        return [
            Decision(weights=tuple(one["weights"].values()), reason=Reason(one["reason"]), **{name: one[name] for name in _ANSWERED})
            for one in told
        ]

    return decide


def free_port(host: str) -> int:
    """Return a port that nobody listens on."""
    import socket

    with socket.socket() as listening:
        listening.bind((host, 0))
        return int(listening.getsockname()[1])
