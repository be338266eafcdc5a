"""The Kubernetes manifests: valid by the schemas of Kubernetes, and true: commands, probes, secrets, volumes, network."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
from deployed import DEPLOY, LIBPQ, READS, WRITES, documents, has_route, logins, made_secrets, parsed

from paretune.serving.streams import AUTH

KUSTOMIZATION = documents(DEPLOY / "kustomization.yaml")[0]
OBJECTS = [(path, each) for path in KUSTOMIZATION["resources"] for each in documents(DEPLOY / path)]
IDS = [f"{each['kind']}-{each['metadata']['name']}" for _, each in OBJECTS]
VERSIONS = ("1.29", "1.37")  # the oldest that is meant, and the newest that is known


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, specification and labels of every pod."""
    for _, each in OBJECTS:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            yield each["metadata"]["name"], template["spec"], template["metadata"]["labels"]


PODS = {name: (spec, labels) for name, spec, labels in pods()}
CONTAINERS = [(name, one) for name, (spec, _) in PODS.items() for one in (*spec.get("initContainers", ()), *spec["containers"])]
OURS = [(name, one) for name, one in CONTAINERS if one["image"].startswith("paretune:")]
NAMES = [f"{name}/{one['name']}" for name, one in CONTAINERS]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_and_nothing_in_it_is_unknown(version: str) -> None:
    for _, each in OBJECTS:
        kubernetes_validate.validate(each, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**OBJECTS[0][1], "specs": {}}, version, strict=True)


def test_kustomize_puts_them_together() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl")
    made = subprocess.run(["kubectl", "kustomize", str(DEPLOY)], capture_output=True, text=True, check=False, timeout=120)
    if made.returncode and "not found" in made.stderr:
        pytest.skip("this kubectl has no kustomize")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("\nkind: ") + made.stdout.startswith("kind: ") >= len(OBJECTS)


def test_every_file_is_a_resource_and_every_name_is_in_the_namespace() -> None:
    assert {Path(path).name for path in KUSTOMIZATION["resources"]} == {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert len(set(IDS)) == len(IDS)
    for _, each in OBJECTS:
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    for made in KUSTOMIZATION["configMapGenerator"]:
        assert all((DEPLOY / file.split("=")[-1]).is_file() for file in made["files"])


@pytest.mark.parametrize(("pod", "container"), OURS, ids=[f"{name}/{one['name']}" for name, one in OURS])
def test_a_container_runs_a_command_that_exists_with_its_files_and_secrets(pod: str, container: dict[str, Any], tmp_path: Path) -> None:
    command, spec = parsed(container["args"]), PODS[pod][0]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {mount["mountPath"]: not mount.get("readOnly") for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    for path in command.paths(WRITES):
        assert any(path.startswith(f"{target}/") and writable for target, writable in mounted.items()), path
    for path in command.paths(READS):
        assert any(path == target or path.startswith(f"{target}/") for target in mounted), path
    made = made_secrets(tmp_path)
    given = [source["secretRef"]["name"] for source in container.get("envFrom", ())]
    known = set().union(*(made[f"{name.removeprefix('paretune-')}.env"] for name in given))
    for address in (command.parameters.get("registry"), command.parameters.get("redis"), command.parameters.get("decisions")):
        parts = urlsplit(str(address or ""))
        if parts.scheme == "postgresql":
            assert parts.password is None
            assert parts.username in logins() | ({"paretune_owner"} if command.name == "migrate" else set())
            assert LIBPQ in known
            assert f"paretune-{str(parts.username).removeprefix('paretune_')}" in given
        if parts.scheme == "redis":
            assert AUTH in known


@pytest.mark.parametrize(("pod", "container"), CONTAINERS, ids=NAMES)
def test_a_container_may_do_nothing_but_its_work_and_says_what_it_needs(pod: str, container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert not [entry for entry in container.get("env", ()) if "value" in entry and re.search(r"PASSWORD|TOKEN|SECRET", entry["name"])]
    spec = PODS[pod][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001, "the image's own"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_probes_ask_routes_that_exist_on_ports_that_are_listened_on() -> None:
    asked = 0
    for _, container in OURS:
        command = parsed(container["args"])
        probes = {kind: container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in container}
        assert bool(probes) == (command.name in {"serve", "console"})
        for probe in probes.values():
            (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == "http"]
            assert port == command.parameters["port"]
            if "httpGet" in probe:
                assert probe["httpGet"]["port"] == "http"
                assert has_route(port, probe["httpGet"]["path"])
                asked += 1
        if command.name == "serve":
            assert (probes["livenessProbe"]["httpGet"]["path"], probes["readinessProbe"]["httpGet"]["path"]) == ("/livez", "/readyz")
    assert asked >= 4


def test_selectors_find_their_pods_and_services_their_ports() -> None:
    labels = [each for _, each in PODS.values()]
    for _, each in OBJECTS:
        selector = each.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", selector)
        if wanted:
            assert [one for one in labels if wanted.items() <= one.items()], each["metadata"]["name"]
        if each["kind"] == "Service":
            (spec,) = [spec for spec, one in PODS.values() if wanted.items() <= one.items()]
            named = {port["name"]: port["containerPort"] for one in spec["containers"] for port in one.get("ports", ())}
            assert all(named[port["targetPort"]] == port["port"] for port in each["spec"]["ports"])
        if each["kind"] == "HorizontalPodAutoscaler":
            target = each["spec"]["scaleTargetRef"]
            (found,) = [one for _, one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
            assert "replicas" not in found["spec"], "two would own the number"
            assert each["spec"]["minReplicas"] >= 2


def test_claims_and_config_maps_exist() -> None:
    claims = {each["metadata"]["name"] for _, each in OBJECTS if each["kind"] == "PersistentVolumeClaim"}
    generated = {made["name"] for made in KUSTOMIZATION["configMapGenerator"]}
    for spec, _ in PODS.values():
        for volume in spec["volumes"]:
            assert volume.get("persistentVolumeClaim", {}).get("claimName", next(iter(claims))) in claims
            assert volume.get("configMap", {}).get("name", next(iter(generated))) in generated


def test_a_leaving_pod_has_time_to_drain_and_to_close_its_sink() -> None:
    spec, _ = PODS["paretune-serve"]
    command = parsed(spec["containers"][0]["args"])
    probe = spec["containers"][0]["readinessProbe"]
    assert command.parameters["drain_s"] >= probe["periodSeconds"] * probe["failureThreshold"] + 2, "endpoints hear of it first"
    assert spec["terminationGracePeriodSeconds"] >= command.parameters["drain_s"] + 20


def test_only_what_must_talk_may_talk() -> None:
    policies = [each["spec"] for _, each in OBJECTS if each["kind"] == "NetworkPolicy"]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies, "nothing is allowed that is not said"
    for name, container in OURS:
        command, labels = parsed(container["args"]), PODS[name][1]
        mine = [policy for policy in policies if policy["podSelector"] and _selected(policy["podSelector"], labels)]
        out = {port["port"] for policy in mine for rule in policy.get("egress", ()) for port in rule["ports"]}
        into = {port["port"] for policy in mine for rule in policy.get("ingress", ()) for port in rule["ports"]}
        needs = {5432 for value in [command.parameters.get("registry")] if "postgresql" in str(value)}
        needs |= {6379 for value in (command.parameters.get("redis"), command.parameters.get("decisions")) if "redis:" in str(value)}
        assert out == needs, name
        assert {command.parameters["port"]} & into if command.name in {"serve", "console"} else into <= {9100}


def _selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    return exact and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


def test_runs_are_where_prometheus_and_the_console_look() -> None:
    ran = {name: parsed(one["args"]).parameters for name, one in OURS if name != "paretune-migrate"}
    (exporter,) = [one for name, one in CONTAINERS if one["image"].startswith("prom/node-exporter")]
    folder = exporter["args"][-1].split("=")[1]
    for name in ("paretune-guard", "paretune-join", "paretune-monitor"):
        assert str(ran[name]["metrics"]).rsplit("/", 1)[0] == folder
    assert ran["paretune-console"]["guardrails"] == ran["paretune-guard"]["status"]
    assert (
        len({str(ran[name].get("logs", ran[name].get("output"))) for name in ("paretune-guard", "paretune-monitor", "paretune-readout")})
        == 1
    )
    assert str(ran["paretune-join"]["output"]) == str(ran["paretune-guard"]["logs"])
    for _, spec in ((name, spec) for name, (spec, _) in PODS.items()):
        assert spec["securityContext"]["fsGroup"] == 10001
