"""Requests made from the OpenAPI document, well-formed and not: none is a fault of ours."""

from typing import Any

import pytest
import schemathesis
from asking import House
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from paretune.console.credentials import csrf_token


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["well-formed", "malformed"])
def test_no_request_is_answered_5xx(mode: GenerationMode, where: str) -> None:
    house = House(where).people()
    house.publish()
    house.registry.activate(house.approved("other"), share=0.05, by="otto")
    document = house.app.openapi()
    schema = schemathesis.openapi.from_dict(document)
    client, asked, statuses = house.client(), [], set()

    for operation in schema.get_all_operations():

        @settings(
            max_examples=10 if house.registry.database.is_sqlite else 4,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.ok().as_strategy(generation_mode=mode))
        def never_5xx(case: Any) -> None:
            session_id = house.accounts.begin("root")
            headers = {"cookie": f"__Host-paretune={session_id}", "x-csrf-token": csrf_token(session_id)}
            made = case.as_transport_kwargs(base_url="https://console.example")
            sent = {key: made[key] for key in ("method", "url", "params", "json") if made.get(key) is not None}
            if isinstance(made.get("data"), bytes | str):
                sent["content"] = made["data"]
            given = {name: value.encode("utf-8", "replace") for name, value in dict(made.get("headers") or {}).items()}
            answer = client.request(**sent, headers={**given, **headers})
            asked.append((case.method, case.path))
            statuses.add(answer.status_code)
            assert answer.status_code < 500, (case.method, sent, answer.text)

        try:
            never_5xx()
        except Unsatisfiable:  # nothing of it can be malformed
            assert mode is GenerationMode.NEGATIVE
    paths = {path for path, methods in document["paths"].items() if mode is GenerationMode.POSITIVE or "requestBody" in str(methods)}
    assert paths <= {path for _, path in asked}
    assert statuses >= ({200, 404} if mode is GenerationMode.POSITIVE else {422})
    assert house.registry.verify() == []
    house.close()
