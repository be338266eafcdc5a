"""The decision service as processes: uvicorn around the application, one runtime and one spool per process. An edge: HTTP, signals, files.

The rules: what a process needs to know travels in one environment variable; on SIGTERM `/readyz` says 503 at once, the process goes on
answering for the drain time, then answers what it has begun and closes its spool. A process that dies is replaced by uvicorn's supervisor.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import uvicorn

from paretune.config import Config, load_config
from paretune.errors import ConfigError
from paretune.serving.app import DECISIONS, DecisionApp, Limits
from paretune.serving.protocol import DecisionProtocol
from paretune.serving.registry_source import RegistryFollower, RegistrySource, registry_runtime
from paretune.serving.runtime import Runtime
from paretune.serving.sinks import DecisionSink
from paretune.serving.sources import Follower, PlanFile, follow
from paretune.serving.spool import Spool

SETTINGS: Final = "PARETUNE_SERVE"  # environment variable with the settings, for the processes that uvicorn starts
_HAND_OVER_S: Final = 0.5
UVICORN: Final[Mapping[str, Any]] = {
    "http": DecisionProtocol,
    "ws": "none",
    "loop": "auto",
    "lifespan": "on",
    "access_log": False,
    "log_level": "warning",
    "proxy_headers": False,
    "server_header": False,
    "date_header": False,
    "timeout_keep_alive": 30,
    "timeout_graceful_shutdown": 10,
}
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"


class Settings(msgspec.Struct, frozen=True):
    """What a process of the service needs to know."""

    bundles: str
    plan: str
    host: str = "127.0.0.1"
    port: int = 8077
    workers: int = 1
    deadline_ms: float = 10.0
    state: str = ""  # folder of the last known good plan and bundles; empty keeps none
    redis: str = ""  # address of a stream of decisions
    spool: str = ""  # folder of decisions, with `redis` of those that it does not take; empty = none
    config: str = ""  # paretune.toml with the columns of the spool
    poll_s: float = 1.0
    drain_s: float = 1.0
    body_bytes: int = 1 << 20
    registry: str = ""  # followed in place of the plan file; its plan and bundles are copied into `mirror`
    mirror: str = ""
    heads: tuple[str, ...] = ()  # with `static`, what is served while there is no plan
    static: tuple[float, ...] = ()


def serve(settings: Settings) -> None:
    """Serve until a signal says otherwise.

    Raises:
        ConfigError: plan, bundles or configuration cannot be read, or the address is taken.
    """
    runtime_of(settings).close()  # what cannot start says so here, once, and not in every process
    _log_config(settings)
    os.environ[SETTINGS] = msgspec.json.encode(settings).decode()
    with tempfile.TemporaryDirectory(prefix="paretune-metrics-") as shared:
        if settings.workers > 1:
            os.environ[_SHARED] = shared
        uvicorn.run(
            "paretune.serving.server:application",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            **UVICORN,
        )


def runtime_of(settings: Settings) -> Runtime:
    """Return a runtime of the settings' plan, or of the last known good one; of the static weights where there is neither.

    Raises:
        ConfigError: there is none of these.
    """
    return _runtime_and_source(settings)[0]


def _runtime_and_source(settings: Settings) -> tuple[Runtime, PlanFile | RegistrySource]:
    static = (settings.heads, settings.static) if settings.static else None
    options: dict[str, Any] = {"deadline_s": settings.deadline_ms / 1e3, "static": static}
    options["state_dir"] = Path(settings.state) if settings.state else None
    if settings.registry:
        return registry_runtime(settings.registry, Path(settings.mirror), **options)
    return Runtime.load(Path(settings.bundles), Path(settings.plan), **options), PlanFile(Path(settings.plan))


def _followed(runtime: Runtime, source: PlanFile | RegistrySource, every_s: float) -> Follower | RegistryFollower:
    if isinstance(source, RegistrySource):
        return RegistryFollower(runtime, source, every_s=every_s)
    return follow(runtime, source, every_s=every_s)


def sink_of(settings: Settings) -> DecisionSink | None:
    """Return where decisions are logged.

    Raises:
        ConfigError: the folder cannot be made, or nothing says which features it holds.
    """
    config = _log_config(settings)
    if config is None:
        return None
    if settings.redis:
        from paretune.serving.streams import StreamSink

        return StreamSink(settings.redis, config, backlog=settings.spool or None)
    return Spool(settings.spool, config)


def _log_config(settings: Settings) -> Config | None:
    if not (settings.spool or settings.redis):
        return None
    if not settings.config:
        raise ConfigError(
            "decisions cannot be logged without a configuration", hint="name it with --config; it says which features a row has"
        )
    return load_config(settings.config)


def application() -> Callable[..., Awaitable[None]]:
    """Return the application of this process, its settings read from the environment."""
    settings = msgspec.json.decode(os.environ[SETTINGS], type=Settings)
    return Process(settings)


class Process:
    """One process of the service: begins and ends with the application's lifespan."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app: DecisionApp | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one call; before the first and after the last, set up and clear away."""
        if scope["type"] != "lifespan":
            if self.app is not None:
                await self.app(scope, receive, send)
            return
        await receive()
        runtime, source = _runtime_and_source(self.settings)
        sink = sink_of(self.settings)
        limits, version = Limits(body_bytes=self.settings.body_bytes), importlib.metadata.version("paretune")
        follower = _followed(runtime, source, self.settings.poll_s)
        self.app = app = DecisionApp(runtime, sink=sink, limits=limits, version=version, heard=lambda: follower.heard_s)
        scope["state"][DECISIONS] = app
        self._drain_on_sigterm(app)
        counting = asyncio.create_task(_hand_over(app))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting
        await asyncio.to_thread(follower.stop)
        if sink is not None:
            await asyncio.to_thread(sink.close)
        app.hand_over()
        runtime.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _drain_on_sigterm(self, app: DecisionApp) -> None:
        """Have SIGTERM turn `/readyz` to 503 first, and end the process after the drain time."""
        after, loop = signal.getsignal(signal.SIGTERM), asyncio.get_running_loop()

        def leave(number: int, frame: FrameType | None) -> None:
            if app.draining or not callable(after):
                return
            app.draining = True
            loop.call_soon_threadsafe(loop.call_later, self.settings.drain_s, after, number, frame)

        signal.signal(signal.SIGTERM, leave)


async def _hand_over(app: DecisionApp) -> None:
    while True:
        await asyncio.sleep(_HAND_OVER_S)
        app.hand_over()
