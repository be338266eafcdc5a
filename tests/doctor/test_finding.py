"""No secret is shown, whatever an address or another library's message holds; one exit code sums up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretune.doctor.finding import Finding, exit_code, failed, secrets_of, shown, without
from paretune.errors import ArtefactError, ConfigError, LogError, UnreachableError

SECRETS = st.text("abcXYZ019-_.~", min_size=4, max_size=20)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://anna:hunter2@db.example:5432/paretune?sslpassword=hunter3", "postgresql://db.example:5432/paretune"),
        ("redis://:hunter2@events/0?stream=paretune:decisions", "redis://events/0"),
        ("https://token@service.example/#hunter2", "https://service.example/"),
        ("paretune.db", "paretune.db"),
        ("/var/lib/a@b:c.db", "/var/lib/a@b:c.db"),
        ("sqlite:///paretune.db", "sqlite:///paretune.db"),
    ],
)
def test_an_address_is_shown_without_user_password_and_query(url: str, said: str) -> None:
    assert shown(url) == said


@given(password=SECRETS, key=SECRETS)
@settings(deadline=None)
def test_a_secret_that_a_message_repeats_is_blotted_out(password: str, key: str) -> None:
    url = f"postgresql://anna:{password}@db/paretune?sslpassword={key}&sslmode=require"
    told = Finding("registry", "db", "wrong", f"cannot connect to {url}", f"try {url}")
    kept = without(secrets_of([url]), told)
    for words in (kept.seen, kept.hint):
        assert words.split("anna:")[1].startswith("***@")
        assert "sslpassword=***" in words
        assert words.endswith("sslmode=require")


def test_a_password_is_blotted_out_as_written_and_as_it_is_meant() -> None:
    kept = without(secrets_of(["redis://:hunter%2F2@events/0"]), Finding("redis", "events", "wrong", "hunter/2, hunter%2F2"))
    assert kept.seen == "***, ***"


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([LogError], 3),
        ([LogError, UnreachableError], 5),
        ([ArtefactError, ConfigError, UnreachableError], 2),
    ],
)
def test_the_exit_code_is_that_of_what_has_to_be_mended_first(errors: list[type[LogError]], code: int) -> None:
    fine = Finding("disk", ".", "warning", "little room", "make room")
    assert exit_code([fine, *(failed("x", "y", error("z", hint="w")) for error in errors)]) == code
