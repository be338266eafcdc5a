"""The caller's side of the decision service: weights within a budget, whatever happens to the service. An edge: HTTP, the clock.

The rules: `decide` never raises and returns within its budget plus a wake-up; without an answer it returns the caller's own static weights
and says why. Connections are kept. Nothing but the standard library, httpx and msgspec is needed.

    client = Client("http://127.0.0.1:8077", static={"save": 91.6, "p2p": 9.1})
    asked = client.ask(request_id="r1", user=7, features={"age": 31.0})  # sent
    ...                                                                  # score candidates meanwhile
    weights = asked.weights().weights                                    # there already

Plain HTTP is spoken over a kept socket by the caller's own thread: an HTTP library takes a millisecond of Python's lock, and a ranker
that scores meanwhile would wait for it. TLS, hedging, and services that answer in chunks go through httpx.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, Self

import httpx
import msgspec

from paretune.connections import Lines, UnusualError, lines_to

BUDGET_S = 0.010
_HEADERS = {"content-type": "application/msgpack"}
_REASON = "FALLBACK:client"
_LONGEST_DETAIL = 200


class Weights(msgspec.Struct, frozen=True):
    """The weights of a request, and why these."""

    weights: dict[str, float]  # head -> weight
    reason: str  # POLICY, EXPLORE, STATIC, or FALLBACK: and what was wrong
    arm: str = ""
    plan: int = 0  # version; 0 = none was asked
    action: int | None = 0  # 0 = production; None = weights off the grid
    propensity: float = 1.0  # of what was served
    detail: str = ""
    elapsed_s: float = 0.0  # as the caller waited


class _Client:
    """What both clients share."""

    def __init__(self, static: Mapping[str, float], budget_s: float, hedge_after_s: float | None) -> None:
        self.static, self.budget_s, self.hedge_after_s = dict(static), budget_s, hedge_after_s
        self._encode, self._decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Weights).decode

    def _body(self, question: dict[str, Any]) -> bytes:
        return self._encode({name: value for name, value in question.items() if value is not None})

    def _answer(self, response: httpx.Response, started: float) -> Weights:
        if response.status_code != 200:
            return self._fallback(f"HTTP {response.status_code}: {response.text}", started)
        return self._read(response.content, started)

    def _read(self, content: bytes, started: float) -> Weights:
        answer = self._decode(content)
        return msgspec.structs.replace(answer, elapsed_s=time.monotonic() - started)

    def _fallback(self, problem: str, started: float) -> Weights:
        return Weights(dict(self.static), _REASON, detail=problem[:_LONGEST_DETAIL], elapsed_s=time.monotonic() - started)


def _timeout(budget_s: float) -> httpx.Timeout:
    return httpx.Timeout(budget_s)


class Asked(Protocol):
    """A question that has been sent."""

    def weights(self) -> Weights:
        """Return the answer, or the static weights once the budget is spent; never raises."""
        ...


class _Told:
    """A question that could not be sent."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def weights(self) -> Weights:
        return self._weights


class _OnThreads:
    """A question that httpx asks on a thread."""

    def __init__(self, client: Client, body: bytes, started: float) -> None:
        self._client, self._body, self._started = client, body, started
        self._asked = [client._threads.submit(client._ask, body)]

    def weights(self) -> Weights:
        try:
            return self._client._first(self._asked, self._body, self._started)
        except Exception as error:  # noqa: BLE001  (broad: on the ranker's own path; it needs weights, not errors)
            return self._client._fallback(f"{type(error).__name__}: {error}", self._started)


class _OnLine:
    """A question that the caller's own thread asks on a kept connection."""

    def __init__(self, client: Client, lines: Lines, body: bytes, started: float) -> None:
        self._client, self._lines, self._body, self._started = client, lines, body, started
        self._until = started + client.budget_s
        self._line = lines.taken(self._until)
        try:
            self._line.send(body, self._until)
        except ConnectionError:  # a kept connection that the service has closed
            self._again()

    def weights(self) -> Weights:
        client = self._client
        try:
            try:
                status, content = self._line.receive(self._until)
            except ConnectionError:
                if not self._line.was_used:
                    raise
                self._again()
                status, content = self._line.receive(self._until)
            self._lines.give_back(self._line)
            if status != 200:
                return client._fallback(f"HTTP {status}: {content.decode(errors='replace')}", self._started)
            return client._read(content, self._started)
        except TimeoutError:
            return client._late(self._started)
        except UnusualError:
            client._lines = None  # a proxy that answers in chunks, say: httpx knows how, from the next question on
            return client._fallback("the answer's form is unusual; the next question goes through httpx", self._started)
        except Exception as error:  # noqa: BLE001  (broad: on the ranker's own path; it needs weights, not errors)
            return client._fallback(f"{type(error).__name__}: {error}", self._started)

    def _again(self) -> None:
        self._line = self._lines.opened(self._until)
        self._line.send(self._body, self._until)


class Client(_Client):
    """Asks from threads; share one between them."""

    def __init__(
        self,
        url: str,
        *,
        static: Mapping[str, float],
        budget_s: float = BUDGET_S,
        hedge_after_s: float | None = None,
        connections: int = 32,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Make a client; the host's name is looked up, nothing is sent yet.

        Args:
            url: of the service.
            static: head -> weight; served when there is no answer.
            budget_s: of a decision.
            hedge_after_s: ask a second time when the first answer is not there by then, and take the first that comes; None = never.
            connections: kept at most, and asked on at once at most.
            transport: for tests.
        """
        super().__init__(static, budget_s, hedge_after_s)
        limits = httpx.Limits(max_connections=2 * connections, max_keepalive_connections=2 * connections, keepalive_expiry=20)
        self._http = httpx.Client(base_url=url, headers=_HEADERS, timeout=_timeout(budget_s), limits=limits, transport=transport)
        self._threads = ThreadPoolExecutor(2 * connections, thread_name_prefix="paretune-client")
        self._lines = lines_to(url, connections) if transport is None and hedge_after_s is None else None

    def ask(
        self,
        *,
        request_id: str | int,
        user: str | int,
        features: Mapping[str, Any],
        cohort: str | None = None,
        session: str | int | None = None,
        time_us: int | None = None,
    ) -> Asked:
        """Return a question that has been sent; its `weights()` waits for the answer, within the budget from now on.

        Args:
            request_id: unique.
            user: whose request it is.
            features: name -> number, text, list of numbers or little-endian bytes.
            cohort: of the user, if any.
            session: of the request, if any.
            time_us: of the request, microseconds since 1970; None = now.
        """
        started = time.monotonic()
        try:
            body = self._body(
                {"request_id": request_id, "user": user, "features": features, "cohort": cohort, "session": session, "time_us": time_us}
            )
            if self._lines is not None:
                return _OnLine(self, self._lines, body, started)
            return _OnThreads(self, body, started)
        except Exception as error:  # noqa: BLE001  (broad: on the ranker's own path; it needs weights, not errors)
            return _Told(self._fallback(f"{type(error).__name__}: {error}", started))

    def decide(
        self,
        *,
        request_id: str | int,
        user: str | int,
        features: Mapping[str, Any],
        cohort: str | None = None,
        session: str | int | None = None,
        time_us: int | None = None,
    ) -> Weights:
        """Return the weights of a request, in time; see `ask`."""
        return self.ask(request_id=request_id, user=user, features=features, cohort=cohort, session=session, time_us=time_us).weights()

    def _first(self, asked: list[Future[httpx.Response]], body: bytes, started: float) -> Weights:
        """Return the first good answer within the budget; httpx's own limits are per read, the budget here is for all of it."""
        left = self.budget_s - (time.monotonic() - started)
        done, pending = wait(asked, timeout=max(0.0, left if self.hedge_after_s is None else min(self.hedge_after_s, left)))
        if not done and self.hedge_after_s is not None:
            asked.append(self._threads.submit(self._ask, body))
            done, pending = wait(asked, timeout=max(0.0, self.budget_s - (time.monotonic() - started)), return_when=FIRST_COMPLETED)
        for late in pending:
            late.cancel()
        if not done:
            return self._late(started)
        return self._answer(done.pop().result(), started)

    def _late(self, started: float) -> Weights:
        return self._fallback(f"no answer within {self.budget_s * 1e3:g} ms", started)

    def _ask(self, body: bytes) -> httpx.Response:
        return self._http.post("/v1/decide", content=body)

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncClient(_Client):
    """Asks from an event loop."""

    def __init__(
        self,
        url: str,
        *,
        static: Mapping[str, float],
        budget_s: float = BUDGET_S,
        hedge_after_s: float | None = None,
        connections: int = 100,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Make a client; see `Client`."""
        super().__init__(static, budget_s, hedge_after_s)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=20)
        self._http = httpx.AsyncClient(base_url=url, headers=_HEADERS, timeout=_timeout(budget_s), limits=limits, transport=transport)

    async def decide(
        self,
        *,
        request_id: str | int,
        user: str | int,
        features: Mapping[str, Any],
        cohort: str | None = None,
        session: str | int | None = None,
        time_us: int | None = None,
    ) -> Weights:
        """Return the weights of a request, in time; see `Client.decide`."""
        started = time.monotonic()
        try:
            body = self._body(
                {"request_id": request_id, "user": user, "features": features, "cohort": cohort, "session": session, "time_us": time_us}
            )
            async with asyncio.timeout(self.budget_s):
                return self._answer(await self._first(body), started)
        except TimeoutError:
            return self._fallback(f"no answer within {self.budget_s * 1e3:g} ms", started)
        except Exception as error:  # noqa: BLE001  (broad: on the ranker's own path; it needs weights, not errors)
            return self._fallback(f"{type(error).__name__}: {error}", started)

    async def _first(self, body: bytes) -> httpx.Response:
        if self.hedge_after_s is None:
            return await self._ask(body)
        asked = [asyncio.ensure_future(self._ask(body))]
        try:
            done, _ = await asyncio.wait(asked, timeout=self.hedge_after_s)
            if not done:
                asked.append(asyncio.ensure_future(self._ask(body)))
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in asked:
                task.cancel()

    async def _ask(self, body: bytes) -> httpx.Response:
        return await self._http.post("/v1/decide", content=body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
