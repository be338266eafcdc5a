"""compose.yaml: valid by the Compose specification, and true: its commands parse, ports meet, files exist, no secret is written down."""

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from deployed import DEPLOY, LIBPQ, READS, STATE, WRITES, Command, documents, has_route, in_shell, logins, made_secrets, parsed

from paretune.config import load_config
from paretune.serving.streams import AUTH, place_of

COMPOSE: dict[str, Any] = documents(DEPLOY / "compose.yaml")[0]
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("paretune:"))


def commands(name: str) -> list[Command]:
    """What a service of ours runs, as paretune's own parser has it."""
    words = SERVICES[name]["command"]
    lines = in_shell(words[0]) if SERVICES[name].get("entrypoint") else [words]
    assert lines, name
    return [parsed(line) for line in lines]


def mounts(name: str) -> dict[str, bool]:
    """Target -> whether it may be written, of a service's volumes."""
    split = [volume.split(":") for volume in SERVICES[name].get("volumes", ())]
    assert all(parts[0] in COMPOSE["volumes"] for parts in split)
    return {parts[1]: parts[2:] != ["ro"] for parts in split}


def test_it_is_valid_by_the_specification() -> None:
    schema = json.loads(importlib.resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    broken = {**COMPOSE, "services": {"x": {"image": "y", "port": ["1:1"]}}}
    assert list(validator.iter_errors(broken)), "the schema is one that refuses"


def test_every_part_is_there() -> None:
    assert set(SERVICES) >= {"postgres", "redis", "prometheus", "grafana", "serve-a", "serve-b", "console", "guard", "join", "monitor"}
    ran = {name: [command.name for command in commands(name)] for name in OURS}
    assert ran == {
        "console": ["console"],
        "guard": ["guard"],
        "join": ["join"],
        "migrate": ["migrate"],
        "monitor": ["monitor"],
        "serve-a": ["serve"],
        "serve-b": ["serve"],
    }


def test_an_option_that_is_renamed_fails() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["serve", "--mirrors=x"])
    with pytest.raises(Exception, match="Missing parameter: logs"):
        parsed(["guard"])


@pytest.mark.parametrize("name", OURS)
def test_what_a_command_writes_lies_in_a_volume_and_what_it_reads_is_mounted(name: str) -> None:
    there = mounts(name) | {config["target"]: False for config in SERVICES[name]["configs"]}
    for command in commands(name):
        for path in command.paths(WRITES):
            assert any(path.startswith(f"{target}/") and writable for target, writable in there.items()), path
        for path in command.paths(READS):
            assert any(path == target or path.startswith(f"{target}/") for target in there), path
        if "config" in command.parameters:
            assert str(command.parameters["config"]) == "/etc/paretune/paretune.toml"


@pytest.mark.parametrize("name", OURS)
def test_a_service_may_do_nothing_but_its_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "user", "pid", "network_mode"} & service.keys(), "the image's own user runs it"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", OURS)
def test_addresses_lead_to_services_that_are_there_with_logins_that_exist(name: str, tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    known = set().union(*(made[Path(file).name] for file in SERVICES[name].get("env_file", ())))
    for command in commands(name):
        for address in [command.parameters.get("registry"), command.parameters.get("redis"), *(command.parameters.get("service") or ())]:
            parts = urlsplit(address or "")
            if not parts.hostname:
                continue
            assert not parts.password
            if parts.scheme == "postgresql":
                assert SERVICES[parts.hostname]["environment"]["POSTGRES_DB"] == parts.path.strip("/")
                owner = SERVICES[parts.hostname]["environment"]["POSTGRES_USER"]
                assert parts.username == (owner if command.name == "migrate" else f"paretune_{command.name.replace('serve', 'service')}")
                assert parts.username == owner or parts.username in logins()
                assert LIBPQ in known
            elif parts.scheme == "redis":
                assert SERVICES[parts.hostname]["image"].startswith("redis:")
                assert AUTH in known
            else:
                assert [other.parameters["port"] for other in commands(parts.hostname)] == [parts.port]
        if command.name == "join":
            assert urlsplit(place_of(command.parameters["decisions"]).url).hostname == "redis"
            assert AUTH in known


def test_ports_and_healthchecks_meet_what_listens() -> None:
    for name in OURS:
        for command in commands(name):
            if command.name not in {"serve", "console"}:
                assert SERVICES[name]["healthcheck"] == {"disable": True}
                continue
            assert command.parameters["host"] == "0.0.0.0"  # noqa: S104
            assert [int(port.split(":")[-1]) for port in SERVICES[name]["ports"]] == [command.parameters["port"]]
            if "healthcheck" in SERVICES[name]:
                url = urlsplit(re.findall(r"http://[^']+", str(SERVICES[name]["healthcheck"]["test"]))[0])
                assert url.port == command.parameters["port"]
                assert has_route(url.port, url.path)
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len({port.rsplit(":", 1)[0] for port in published}) == len(published)


def test_prometheus_scrapes_every_service_and_the_runs() -> None:
    jobs = {job["job_name"]: job for job in documents(DEPLOY / "prometheus" / "prometheus.yml")[0]["scrape_configs"]}
    targets = [urlsplit(f"//{target}") for target in jobs["paretune"]["static_configs"][0]["targets"]]
    assert {target.hostname for target in targets} == {name for name in OURS if name.startswith("serve")}
    assert all(commands(str(target.hostname))[0].parameters["port"] == target.port for target in targets)
    assert has_route(8077, jobs["paretune"]["metrics_path"])
    (runs,) = jobs["paretune-runs"]["static_configs"][0]["targets"]
    exporter = SERVICES[runs.split(":")[0]]
    assert exporter["command"][-1] == "--collector.textfile.directory=/metrics"
    (shared,) = [volume.split(":")[0] for volume in exporter["volumes"]]
    for name in ("join", "guard", "monitor"):
        (written,) = [str(command.parameters["metrics"]) for command in commands(name)]
        assert written.endswith(".prom"), "the collector reads no other files"
        assert f"{shared}:{Path(written).parent}" in SERVICES[name]["volumes"]


def test_files_exist_and_the_example_is_a_configuration() -> None:
    for name, config in COMPOSE["configs"].items():
        file = DEPLOY / re.sub(r"\$\{\w+:-(.*)\}", r"\1", config["file"])
        assert file.is_file(), name
    used = {config["source"] for service in SERVICES.values() for config in service.get("configs", ())}
    assert used == set(COMPOSE["configs"])
    assert load_config(DEPLOY / "paretune.toml").surface.heads
    assert (DEPLOY / COMPOSE["x-paretune"]["build"]["context"] / COMPOSE["x-paretune"]["build"]["dockerfile"]).is_file()


def test_no_secret_is_written_down_and_those_that_are_named_are_made(tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.glob("*.env")}
    assert made_secrets(tmp_path) == made
    assert {path.name: path.read_text() for path in tmp_path.glob("*.env")} == before, "what exists is left alone"
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.glob("*.env"))
    named = {file for service in SERVICES.values() for file in service.get("env_file", ())}
    assert {f"secrets/{name}" for name in made} == named
    for service in SERVICES.values():
        inline = service.get("environment", {})
        assert not [key for key in inline if re.search(r"PASSWORD|SECRET|TOKEN|KEY|AUTH", key)]
    roles = dict(line.split("=") for line in (tmp_path / "roles.env").read_text().split())
    script = (DEPLOY / "postgres" / "roles.sql").read_text()
    assert set(re.findall(r"\\getenv \w+ (\w+)", script)) == set(roles)
    for login in ("service", "console", "guard"):
        assert (tmp_path / f"{login}.env").read_text().strip() == f"{LIBPQ}={roles[f'PARETUNE_{login.upper()}_PASSWORD']}"


def test_who_waits_for_whom_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        for other, how in waits.items() if isinstance(waits, dict) else ():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], (name, other)
            else:
                assert SERVICES[other]["restart"] == "on-failure", "it comes to an end"


def test_decisions_that_wait_for_redis_outlive_the_container() -> None:
    for name in ("serve-a", "serve-b"):
        (command,) = commands(name)
        assert command.parameters["redis"]
        assert str(command.parameters["spool"]).startswith(STATE)
        assert mounts(name) == {STATE: True}
        grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace >= command.parameters["drain_s"] + 20, "it drains, answers what it began, and closes its sink"
