"""`paretune console`, `account` and `token`, as they are called."""

import io
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from paretune.cli import main
from paretune.policy.registry import Registry

PASSWORD = "correct horse battery"  # noqa: S105


@pytest.fixture
def password(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return str(file)


def test_accounts_and_tokens_from_the_command_line(tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--registry", str(tmp_path / "p.db"), "--as", "ops", "--json"]

    def told(*words: str) -> object:
        assert main([*words, *where]) == 0
        return json.loads(capsys.readouterr().out)

    assert told("account", "add", "root", "--role", "admin", "--password-file", password)["role"] == "admin"  # type: ignore[index]
    assert told("account", "add", "anna", "--no-password")["has_password"] is False  # type: ignore[index]
    assert told("account", "role", "anna", "--role", "operator")["role"] == "operator"  # type: ignore[index]
    assert told("account", "bar", "anna")["disabled"] is True  # type: ignore[index]
    assert told("account", "admit", "anna")["disabled"] is False  # type: ignore[index]
    assert told("account", "password", "anna", "--password-file", password)["has_password"] is True  # type: ignore[index]
    made = told("token", "make", "job", "--account", "anna", "--role", "operator", "--days", "9")
    assert made["secret"].startswith("ptk_")  # type: ignore[index]
    assert told("token", "revoke", made["id"])["revoked_us"] > 0  # type: ignore[index]
    assert [row["name"] for row in told("token", "list")] == ["job"]  # type: ignore[attr-defined]
    assert [row["name"] for row in told("account", "list")] == ["anna", "root"]  # type: ignore[attr-defined]
    trail = Registry(tmp_path / "p.db").audit()
    assert {(entry.who, json.loads(entry.detail)["from"]) for entry in trail} == {("ops", "command line")}
    assert len(trail) == 8
    assert PASSWORD not in repr(trail)


def test_what_is_wrong_with_an_account_is_said_and_exits_as_documented(
    tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--registry", str(tmp_path / "p.db")]
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for words, code, said in [
        (["account", "list"], 2, "no registry"),
        (["account", "add", "root", "--role", "admin"], 2, "nobody is here to be asked"),
        (["account", "add", "root", "--role", "king", "--password-file", password], 2, "no role 'king'"),
        (["account", "add", "--password-file", password], 2, "which account?"),
        (["account", "add", "root", "--role", "admin", "--password-file", password], 0, ""),
        (["account", "bar", "root"], 4, "last admin"),
        (["token", "make", "x"], 2, "for which account?"),
        (["token", "revoke", "00000000"], 2, "no token 00000000"),
    ]:
        assert main([*words, *where]) == code, words
        assert said in capsys.readouterr().err


@pytest.mark.e2e
def test_a_console_is_set_up_over_http_with_the_code_it_prints(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["console", "--registry", str(tmp_path / "p.db"), "--port", str(port), "--json"]
    process = subprocess.Popen([sys.executable, "-m", "paretune", *words], stdout=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        with httpx.Client(base_url=f"{told['address']}/api/v1", timeout=10) as client:
            for _ in range(100):
                try:
                    client.get("/health")
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            made = client.post("/setup", json={"code": told["setup_code"], "name": "root", "password": PASSWORD})
            assert made.status_code == 201, made.text
            csrf = client.post("/login", json={"name": "root", "password": PASSWORD}).json()["csrf"]
            assert client.get("/session").json()["role"] == "admin"
            assert client.post("/plan/kill", json={}).status_code == 403
            assert client.post("/plan/kill", json={}, headers={"x-csrf-token": csrf}).status_code == 409
            assert "server" not in client.get("/plan").headers
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()  # type: ignore[union-attr]
