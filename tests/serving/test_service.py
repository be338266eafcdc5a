"""The decision service in process: questions are answered with weights, anything else with a refusal that names the field."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from fake_scorer import FINGERPRINT, HEADS, STATIC, FakeScorer, everybody, exploring, plan_of

from paretune.serving.admission import Admission
from paretune.serving.app import ADMITTED, RECEIVED, DecisionApp, Limits
from paretune.serving.decide import Decision, Reason, Request
from paretune.serving.runtime import Runtime
from paretune.serving.sinks import SinkCounts, SinkHealth

ASK = {"request_id": "r1", "user": 7, "features": {"x": 1.5}}


class Kept:
    """A sink that keeps what it is offered."""

    def __init__(self) -> None:
        self.rows: list[tuple[Request, Decision]] = []

    @property
    def counts(self) -> SinkCounts:
        return SinkCounts(len(self.rows), len(self.rows), 0, 0)

    @property
    def health(self) -> SinkHealth:
        return SinkHealth(free_bytes=7 * 2**30)

    def offer(self, request: Request, decision: Decision) -> bool:
        self.rows.append((request, decision))
        return True

    def flush(self, timeout_s: float = 5.0) -> bool:
        return True

    def close(self) -> None:
        pass


def app_of(plan: Any = None, **options: Any) -> DecisionApp:
    return DecisionApp(Runtime({FINGERPRINT: FakeScorer()}, plan or everybody(), deadline_s=0.5), **options)


def asked(app: Callable[..., Awaitable[None]], path: str = "/v1/decide", *, method: str = "POST", **content: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            return await client.request(method, path, **content)

    return asyncio.run(go())


def test_json_and_messagepack_say_the_same() -> None:
    app = app_of()
    plain = asked(app, json=ASK).json()
    packed = msgspec.msgpack.decode(
        asked(app, content=msgspec.msgpack.encode(ASK), headers={"content-type": "application/msgpack"}).content
    )
    assert {**plain, "elapsed_ms": 0} == {**packed, "elapsed_ms": 0}
    assert plain["reason"] == "POLICY"
    assert tuple(plain["weights"]) == HEADS
    assert (plain["plan"], plain["arm"], plain["propensity"]) == (1, "policy", 1.0)


def test_the_answer_is_the_runtime_s_decision() -> None:
    app = app_of(plan_of())
    for user in range(50):
        answer = asked(app, json=ASK | {"user": user}).json()
        decision = app.runtime.decide(Request("r1", user, {"x": 1.5}))
        assert list(answer["weights"].values()) == list(decision.weights)
        assert (answer["arm"], answer["reason"], answer["action"]) == (decision.arm, decision.reason, decision.action)


def test_a_batch_is_answered_in_order_and_whole_or_not_at_all() -> None:
    app = app_of()
    batch = {"requests": [ASK | {"request_id": i, "features": {"x": i / 7}} for i in range(20)]}
    answers = asked(app, "/v1/decide/batch", json=batch).json()["decisions"]
    assert [answer["request_id"] for answer in answers] == list(range(20))
    batch["requests"][13] = ASK | {"features": [1, 2]}
    kept = Kept()
    refused = asked(app_of(sink=kept), "/v1/decide/batch", json=batch)
    assert refused.status_code == 400
    assert refused.json()["field"] == "requests[13].features"
    assert kept.rows == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"user": 7}, "request_id"),
        ({"request_id": "a"}, "user"),
        ({"request_id": 1.5, "user": 7}, "request_id"),
        ({"request_id": "a", "user": [7]}, "user"),
        ({"request_id": "", "user": 7}, "request_id"),
        ({"request_id": "a", "user": 2**64}, "user"),
        ({"request_id": "a", "user": 7, "cohort": 3}, "cohort"),
        ({"request_id": "a", "user": 7, "features": "x"}, "features"),
        ({"request_id": "a", "user": 7, "colour": "red"}, "colour"),
        ([], "body"),
    ],
)
def test_what_makes_no_question_is_refused_and_the_field_named(body: Any, field: str) -> None:
    refused = asked(app_of(), json=body)
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["field"] == field


def test_a_wrong_feature_is_no_refusal_but_static_weights_and_its_name() -> None:
    for features, reason in (({}, "FALLBACK:missing features"), ({"x": "red"}, "FALLBACK:bad input")):
        answer = asked(app_of(), json=ASK | {"features": features})
        assert answer.status_code == 200
        assert answer.json()["reason"] == reason
        assert answer.json()["detail"] == "x"
        assert tuple(answer.json()["weights"].values()) == STATIC


@pytest.mark.parametrize(
    ("path", "method", "headers", "content", "status"),
    [
        ("/v1/decide", "GET", {}, b"", 405),
        ("/livez", "POST", {}, b"", 405),
        ("/nowhere", "GET", {}, b"", 404),
        ("/v1/decide", "POST", {"content-type": "text/xml"}, b"<a/>", 415),
        ("/v1/decide", "POST", {}, b"{", 400),
        ("/v1/decide", "POST", {}, b"", 400),
        ("/v1/decide", "POST", {}, b"\xff\xfe", 400),
        ("/v1/decide", "POST", {}, b"[" * 10_000, 400),
        ("/v1/decide", "POST", {}, b'{"request_id":1,"user":2,"features":{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}}", 400),
        ("/v1/decide", "POST", {"content-type": "application/msgpack"}, b"\x91" * 10_000, 400),
        ("/v1/decide", "POST", {}, b" " * (1 << 20) + b"{}", 413),
    ],
)
def test_other_calls_are_refused(path: str, method: str, headers: dict[str, str], content: bytes, status: int) -> None:
    answer = asked(app_of(), path, method=method, headers=headers, content=content)
    assert answer.status_code == status
    assert answer.json()["status"] == status


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def slowly() -> Any:
        yield b'{"request_id"'
        await asyncio.sleep(1)

    app, sent = app_of(limits=Limits(body_s=0.05)), []

    async def go() -> None:
        parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])

        async def receive() -> Any:
            part = next(parts, None)
            if part is None:
                await asyncio.sleep(5)
            return part

        async def send(event: Any) -> None:
            sent.append(event)

        await app({"type": "http", "path": "/v1/decide", "method": "POST", "headers": []}, receive, send)

    asyncio.run(go())
    assert sent[0]["status"] == 408


def straight(app: DecisionApp, question: dict[str, Any], **scope: Any) -> dict[str, Any]:
    """Return the answer to a question, with what a server notes in the scope."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(question).encode()}

    async def send(event: Any) -> None:
        sent.append(event)

    asyncio.run(app({"type": "http", "path": "/v1/decide", "method": "POST", "headers": []} | scope, receive, send))
    return json.loads(sent[1]["body"])


def test_over_capacity_a_model_is_not_asked_and_features_of_teaching_rows_are_still_logged() -> None:
    kept = Kept()
    app = app_of(plan_of(arms=everybody().arms, exploration=exploring(share=0.3)), sink=kept)
    reasons = {straight(app, ASK | {"request_id": i}, **{ADMITTED: False})["reason"] for i in range(60)}
    assert reasons == {"EXPLORE", "FALLBACK:overload"}
    for request, decision in kept.rows:
        assert dict(request.features) == ({"x": 1.5} if decision.reason is Reason.EXPLORE else {})


def turn(admission: Admission, now: float, arrivals: int, *, each_s: float) -> int:
    """Read what arrived, answer what was admitted, and return how many that were."""
    admission.reading(now)
    admitted = sum(admission.arrives(now) for _ in range(arrivals))
    admission.over(now)
    for i in range(admitted):
        admission.done(now + (i + 1) * each_s)
    return admitted


def test_admission_learns_what_a_decision_takes_and_fills_half_of_the_budget() -> None:
    admission, now = Admission(0.010), 0.0
    for _ in range(100):
        now += 0.02  # idle in between, so nothing waits unseen
        turn(admission, now, 3, each_s=0.001)
    assert admission.expected_s == pytest.approx(0.001, rel=0.1)
    assert turn(admission, now + 0.02, 50, each_s=0.001) == 5
    assert turn(admission, now + 0.026, 50, each_s=0.001) < 5, "what arrived meanwhile may have waited for as long as that turn took"


def test_a_stall_does_not_turn_everybody_away_for_long_and_a_slow_model_is_still_tried() -> None:
    admission, now = Admission(0.010, expected_s=0.001), 0.0
    turn(admission, now + 1, 1, each_s=5.0)
    now = 10.0
    turn(admission, now, 1, each_s=0.001)
    assert admission.expected_s < 0.0015
    slow = Admission(0.010, expected_s=0.5)
    assert turn(slow, 1.0, 5, each_s=0.5) == 1
    assert turn(Admission(0.0), 1.0, 5, each_s=9.0) == 5


def test_time_counts_from_when_the_request_had_been_read() -> None:
    app = app_of()
    answer = straight(app, ASK, **{RECEIVED: app._clock() - 1.0, ADMITTED: True})
    assert answer["reason"] == "FALLBACK:overload"
    assert answer["elapsed_ms"] > 1000


def test_health_metrics_and_the_document_are_there() -> None:
    kept = Kept()
    app = app_of(sink=kept)
    for i in range(5):
        asked(app, json=ASK | {"request_id": i})
    asked(app, json={})
    assert asked(app, "/livez", method="GET").text == "alive\n"
    assert asked(app, "/readyz", method="GET").json() == {"ready": True, "plan": 1, "killed": False, "problems": []}
    app.draining = True
    assert asked(app, "/readyz", method="GET").status_code == 503
    metrics = asked(app, "/metrics", method="GET").text
    assert 'paretune_decisions_total{arm="policy",reason="POLICY"} 5.0' in metrics
    assert 'paretune_refused_total{status="400"} 1.0' in metrics
    assert 'paretune_decision_latency_seconds_bucket{le="+Inf"} 5.0' in metrics
    assert "_created" not in metrics
    assert "paretune_plan_version 1.0" in metrics
    assert len(kept.rows) == 5
    document = asked(app, "/openapi.json", method="GET").json()
    assert {"/v1/decide", "/v1/decide/batch", "/readyz"} <= set(document["paths"])


def test_trace_context_passes_through() -> None:
    answer = asked(app_of(), json=ASK, headers={"traceparent": "00-abc-def-01"})
    assert answer.headers["traceparent"] == "00-abc-def-01"


def test_what_nobody_foresaw_is_answered_with_an_id_and_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Kept):
        def offer(self, request: Request, decision: Decision) -> bool:
            raise RuntimeError("secret")

    answer = asked(app_of(sink=Broken()), json=ASK)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["detail"].split()[2] in caplog.text
