"""The systemd units: verified by systemd itself where it is installed, and their commands by paretune's own parser."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import DEPLOY, READS, STATE, WRITES, Command, parsed

UNITS = DEPLOY / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
TIMERS = sorted(path.name for path in UNITS.glob("*.timer"))
BINARY = "/opt/paretune/bin/paretune"
METRICS = "/var/lib/paretune-metrics"
LEAST = ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "CapabilityBoundingSet=")


def settings(name: str) -> dict[str, list[str]]:
    """Key -> values, all sections together; every line is one of the three that a unit may have."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith(("#", "[")):
            assert re.fullmatch(r"|#.*|\[(Unit|Service|Timer|Install)\]", line), line
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert re.fullmatch(r"[A-Z]\w+", key), line
        found.setdefault(key, []).append(value)
    return found


def command(name: str) -> Command:
    (line,) = settings(name)["ExecStart"]
    words = shlex.split(line)
    assert words[0] == BINARY
    return parsed(words[1:])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with a binary that is there, in a folder of their own."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: install Debian's package `systemd`")
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.timer")):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8").replace(BINARY, "/bin/true"), encoding="utf-8")
    return tmp_path


def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(path) for path in sorted(installed.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = [line for line in ran.stderr.splitlines() if "paretune" in line]
    assert (ran.returncode, said) == (0, []), ran.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_calls_a_service_s_exposure_small(name: str, installed: Path) -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(installed / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "nrecognized option" in ran.stderr:
        pytest.skip("systemd before 250 does not judge files")
    assert ran.returncode == 0, ran.stdout[-300:] + ran.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_command_that_exists_on_paths_that_it_may_use(name: str) -> None:
    told, ran = settings(name), command(name)
    assert name == f"paretune-{ran.name}.service"
    assert told["User"] == ["paretune"]
    assert told["StateDirectory"] == ["paretune"]
    assert set(LEAST) <= {f"{key}={value}" for key, values in told.items() for value in values}
    writable = {STATE, *told.get("ReadWritePaths", ())}
    for path in ran.paths(WRITES):
        assert any(path.startswith(f"{folder}/") for folder in writable), path
    for path in ran.paths(READS):
        assert path.startswith((f"{STATE}/", "/etc/paretune/")), path
    if ran.parameters.get("metrics"):
        assert Path(str(ran.parameters["metrics"])).parent == Path(METRICS)
        assert str(ran.parameters["metrics"]).endswith(".prom")


def test_one_s_output_is_the_other_s_input() -> None:
    ran = {name.removeprefix("paretune-").removesuffix(".service"): command(name).parameters for name in SERVICES}
    assert set(ran) == {"serve", "console", "guard", "join", "monitor"}
    assert str(ran["serve"]["spool"]) == str(ran["join"]["decisions"]) == str(ran["guard"]["spool"])
    assert str(ran["join"]["output"]) == str(ran["guard"]["logs"]) == str(ran["monitor"]["logs"])
    assert ran["serve"]["registry"] == ran["console"]["registry"] == ran["guard"]["registry"]
    assert ran["console"]["guardrails"] == ran["guard"]["status"]
    assert ran["console"]["service"] == [f"http://{ran['serve']['host']}:{ran['serve']['port']}"]
    assert ran["console"]["port"] != ran["serve"]["port"]


def test_a_stopped_service_has_time_to_drain_and_a_killed_one_comes_back() -> None:
    told = settings("paretune-serve.service")
    assert int(told["TimeoutStopSec"][0]) >= command("paretune-serve.service").parameters["drain_s"] + 20
    assert told["KillMode"] == ["mixed"], "the supervisor is told, and tells its workers"
    for name in ("paretune-serve.service", "paretune-guard.service"):
        assert settings(name)["Restart"] == ["always"]
        assert settings(name)["StartLimitIntervalSec"] == ["0"], "however often"


def test_each_timer_starts_a_service_that_comes_to_an_end() -> None:
    assert TIMERS == ["paretune-join.timer", "paretune-monitor.timer"]
    for name in TIMERS:
        service = settings(name.replace(".timer", ".service"))
        assert service["Type"] == ["oneshot"]
        assert settings(name)["WantedBy"] == ["timers.target"]
        assert "WantedBy" not in service
    assert settings("paretune-monitor.service")["SuccessExitStatus"] == ["4"], "a verdict is no failure"


def test_user_and_folders_are_made() -> None:
    users = (UNITS / "paretune.sysusers.conf").read_text()
    assert re.search(rf'^u paretune - "[^"]*" {STATE} -$', users, re.MULTILINE)
    folders = {}
    for line in (UNITS / "paretune.tmpfiles.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            kind, path, mode, user, group, age = line.split()
            assert (kind, user, group) == ("d", "paretune", "paretune")
            folders[path] = (mode, age)
    assert {f"{STATE}/spool", f"{STATE}/events", METRICS} <= folders.keys()
    assert folders[METRICS][0] == "0755", "read by the node exporter"
    kept = {path for path, (_, age) in folders.items() if age == "-"}
    assert STATE in kept, "the registry and the log have no age"
