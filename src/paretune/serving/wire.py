"""What travels over HTTP: a request's question and the answer, as JSON or MessagePack.

The rules: what makes no question at all (no request id, a user that is no id) is refused, and the refusal names the field; whatever is
wrong with a feature is no refusal, but static weights and a reason. Features are decoded only for requests that a model will see. In
MessagePack, vectors and token sequences travel as bytes, which costs nothing to decode; in JSON as lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from paretune.serving.decide import Decision, Request

Media = Literal["json", "msgpack"]
JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
MEDIA: Final[Mapping[str, Media]] = {JSON: "json", MSGPACK: "msgpack", "application/x-msgpack": "msgpack"}
MOST_IN_A_BATCH: Final = 1000

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Id = Text | Whole


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which weights for this request?"""

    request_id: Id
    user: Id
    features: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    cohort: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    session: Id | None = None
    time_us: Whole | None = None  # of the request, microseconds since 1970-01-01 UTC; absent = now


class Questions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which weights for these requests?"""

    requests: Annotated[list[Question], msgspec.Meta(min_length=1, max_length=MOST_IN_A_BATCH)]


class Answer(msgspec.Struct, frozen=True):
    """The weights, and all that a log line needs to explain them."""

    request_id: Id
    weights: dict[str, float]  # head -> weight
    action: int | None  # index into the actions, 0 = production; null = weights off the grid
    arm: str
    plan: int  # version; 0 = none
    propensity: float  # of what was really served, in (0, 1]
    reason: str
    detail: str
    elapsed_ms: float


class Answers(msgspec.Struct, frozen=True):
    """The answers, in the order of the questions."""

    decisions: list[Answer]


class Problem(msgspec.Struct, frozen=True):
    """What was wrong with a call (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str = ""  # path of the field, e.g. requests[3].user


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """A body that makes no question."""

    detail: str
    field: str


_FIELD = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_decoders: Final[dict[tuple[Media, type], Any]] = {
    (media, kind): (msgspec.json if media == "json" else msgspec.msgpack).Decoder(kind)
    for media in ("json", "msgpack")
    for kind in (Question, Questions, dict[str, Any])
}
_encoders: Final[Mapping[Media, Any]] = {"json": msgspec.json.Encoder(), "msgpack": msgspec.msgpack.Encoder()}


def decoded(body: bytes, kind: type, media: Media) -> Any:
    """Return a body as a Question or as Questions.

    Raises:
        Refused: it is none; the field is named.
    """
    try:
        return _decoders[media, kind].decode(body)
    except msgspec.ValidationError as error:
        raise _refused(error) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Refused(f"the body is no {media}: {error}", "") from None


def features_of(raw: msgspec.Raw, media: Media) -> Mapping[str, Any]:
    """Return the features of a question.

    Raises:
        Refused: they are no object with text keys.
    """
    if not memoryview(raw):
        return {}
    try:
        return _decoders[media, dict[str, Any]].decode(raw)
    except msgspec.ValidationError as error:
        refused = _refused(error)
        raise Refused(refused.detail, f"features{refused.field}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Refused(f"the features are no {media}: {error}", "features") from None


def request_of(question: Question, features: Mapping[str, Any]) -> Request:
    """Return a question as the runtime's request."""
    return Request(question.request_id, question.user, features, question.cohort, question.session, question.time_us)


def answer_of(decision: Decision) -> Answer:
    """Return a decision as it travels."""
    return Answer(
        decision.request_id,
        dict(zip(decision.heads, decision.weights, strict=True)),
        decision.action,
        decision.arm,
        decision.plan,
        decision.propensity,
        decision.reason.value,
        decision.detail,
        decision.elapsed_s * 1e3,
    )


def encoded(answer: Answer | Answers, media: Media) -> bytes:
    """Return an answer's body."""
    return _encoders[media].encode(answer)


def _refused(error: msgspec.ValidationError) -> Refused:
    found = _FIELD.fullmatch(str(error))
    detail, path = (found[1], found[2]) if found else (str(error), "")
    missing = re.search(r"(?:missing required field|contains unknown field) `([^`]*)`", detail)
    if missing:
        path = f"{path}.{missing[1]}"
    return Refused(detail, path.removeprefix("."))


def openapi(version: str) -> dict[str, Any]:
    """Return the service's OpenAPI 3.1 document, its schemas generated from the types that decode.

    Args:
        version: of paretune.
    """
    (*_,), components = msgspec.json.schema_components(
        [Question, Questions, Answer, Answers, Problem], ref_template="#/components/schemas/{name}"
    )
    components["Question"]["properties"]["features"] = {
        "type": "object",
        "description": "feature -> number, text, list of numbers, or (MessagePack) little-endian bytes; see serving.json of the bundle",
        "additionalProperties": True,
    }

    def body(name: str) -> dict[str, Any]:
        schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        return {JSON: schema, MSGPACK: schema}

    def posts(question: str, answer: str, title: str) -> dict[str, Any]:
        problem = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        refusals = {
            "400": "the body makes no question", "405": "another method", "408": "the body did not arrive in time",
            "413": "the body is too large", "415": "another content type",
        }  # fmt: skip
        return {
            "post": {
                "operationId": title.replace(" ", "_"),
                "summary": title,
                "requestBody": {"required": True, "content": body(question)},
                "responses": {
                    "200": {"description": "weights, always; `reason` says why these", "content": body(answer)},
                    **{code: {"description": text, **problem} for code, text in refusals.items()},
                },
            }
        }

    def gets(title: str, *codes: str) -> dict[str, Any]:
        return {
            "get": {"operationId": title.replace(" ", "_"), "summary": title, "responses": {code: {"description": title} for code in codes}}
        }

    return {
        "openapi": "3.1.0",
        "info": {"title": "paretune decisions", "version": version},
        "paths": {
            "/v1/decide": posts("Question", "Answer", "weights of one request"),
            "/v1/decide/batch": posts("Questions", "Answers", "weights of several requests"),
            "/livez": gets("alive", "200"),
            "/readyz": gets("ready for traffic", "200", "503"),
            "/metrics": gets("Prometheus metrics", "200"),
            "/openapi.json": gets("this document", "200"),
        },
        "components": {"schemas": components},
    }
