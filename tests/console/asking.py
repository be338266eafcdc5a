"""A console in this process, and clients that are signed in to it."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx
from registries import ANNA, Clock, bundle, document

from paretune.console.access import Role
from paretune.console.accounts import Accounts
from paretune.console.api import control_app
from paretune.console.credentials import Cost, Expiry, csrf_token
from paretune.policy.registry import Registry

PASSWORD = "correct horse battery"  # noqa: S105
LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()
PEOPLE = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "bert": Role.APPROVER, "root": Role.ADMIN}


class Here(httpx.BaseTransport):
    """To an application in this process, from an address; for any number of threads."""

    def __init__(self, app: Any, address: str) -> None:
        self.transport = httpx.ASGITransport(app, client=(address, 5000))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask on the loop, and wait."""
        return asyncio.run_coroutine_threadsafe(self._ask(request), LOOP).result(30)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        answer = await self.transport.handle_async_request(asked)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


@dataclass
class House:
    """A registry, its accounts and its console."""

    where: str
    options: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.registry = Registry(self.where, clock=self.clock)
        cost, expiry = Cost(n=1 << 4, r=8, p=1), Expiry(idle_s=600, absolute_s=3600)
        self.accounts = Accounts(self.registry.database, clock=self.clock, expiry=expiry, cost=cost)
        self.app = control_app(self.registry, self.accounts, monotonic=self.clock, **self.options)

    def people(self) -> "House":
        """With one account of each role."""
        self.accounts.set_up("root", PASSWORD)
        for name, role in PEOPLE.items():
            if name != "root":
                self.accounts.add(name, role, PASSWORD, by="root")
        return self

    def client(self, address: str = "203.0.113.9", **options: Any) -> httpx.Client:
        """Nobody, from an address."""
        return httpx.Client(transport=Here(self.app, address), base_url="https://console.example", **options)

    def session(self, name: str) -> httpx.Client:
        """Somebody in a browser that sends the CSRF token."""
        client, session_id = self.client(), self.accounts.begin(name)
        client.cookies.set("__Host-paretune", session_id)
        client.headers["x-csrf-token"] = csrf_token(session_id)
        return client

    def token(self, name: str, role: Role | None = None, **options: Any) -> httpx.Client:
        """A program of somebody."""
        _, secret = self.accounts.make_token(name, "test", role=role or PEOPLE[name], by=name, **options)
        return self.client(headers={"authorization": f"Bearer {secret}"})

    def publish(self, content: str = "model", **changes: Any) -> tuple[int, str]:
        """A draft of Anna's: its number and fingerprint."""
        files = bundle(content)
        found = self.registry.publish(document(files, **changes), files, by=ANNA)
        return found.number, found.standing.fingerprint

    def approved(self, content: str = "model") -> int:
        """An approved policy of Anna's."""
        number, _ = self.publish(content)
        self.registry.approve(number, by="bert")
        return number

    def close(self) -> None:
        """Give back all connections."""
        self.registry.close()
