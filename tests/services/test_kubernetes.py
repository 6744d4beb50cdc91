"""deploy/kubernetes: by Kubernetes' own schemas; and whether the manifests agree with each other and the worker."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.management import load_command_class

from django_taskq.metrics.families import OF_THE_QUEUE
from django_taskq.worker.nursery import MAINTENANCE_PATIENCE
from django_taskq.worker.supervisor import KILL_AFTER
from tests.servers import ROOT

pytestmark = pytest.mark.services

FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
MANIFESTS = [manifest for path in FILES for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
PODS = [manifest for manifest in MANIFESTS if manifest["kind"] in ("Deployment", "Job")]


def named(kind: str, name: str = "shop-worker") -> dict[str, Any]:
    [found] = [each for each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return dict(found)


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.fixture(scope="module")
def schemas() -> Any:
    """Installed by `make test-services` alone: elsewhere these tests are collected, too."""
    import kubernetes_validate

    return kubernetes_validate


@pytest.mark.parametrize("version", ["1.29", "1.33"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_every_manifest_fits_the_schema(schemas: Any, manifest: dict[str, Any], version: str) -> None:
    if manifest["kind"] == "ScaledObject":  # KEDA's: see below
        return
    schemas.validate(manifest, version, strict=True)


def test_a_mistake_would_be_found(schemas: Any) -> None:
    wrong = named("Deployment")
    wrong["spec"] = {**wrong["spec"], "replica": 2}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(wrong, "1.33", strict=True)


@pytest.mark.parametrize("manifest", PODS, ids=lambda each: each["metadata"]["name"])
def test_no_container_is_root_or_writes_where_it_should_not(manifest: dict[str, Any]) -> None:
    pod, container = manifest["spec"]["template"]["spec"], container_of(manifest)
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"tmp": "/tmp", "data": "/var/lib/shop"}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert container["resources"]["limits"]["memory"]


def test_a_pod_has_longer_to_stop_than_its_worker_takes() -> None:
    worker = named("Deployment")
    container = container_of(worker)
    command = load_command_class("django_taskq", "taskq_worker").create_parser("manage.py", "taskq_worker")
    options = command.parse_args(container["args"])
    grace = worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > options.shutdown_timeout + KILL_AFTER + MAINTENANCE_PATIENCE
    assert [port["containerPort"] for port in container["ports"]] == [options.metrics_port]
    assert options.processes * options.max_memory < 1024  # of the limit


def test_the_probes_ask_taskq_health_in_words_that_it_knows() -> None:
    health = load_command_class("django_taskq", "taskq_health").create_parser("manage.py", "taskq_health")
    asked = []
    for manifest in PODS:
        container = container_of(manifest)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            words = container.get(probe, {}).get("exec", {}).get("command", [])
            if words:
                assert words[:3] == ["python", "manage.py", "taskq_health"]
                options = health.parse_args(words[3:])
                assert options.timeout < container[probe]["timeoutSeconds"]
                asked.append((manifest["metadata"]["name"], probe))
    assert asked == [("shop-web", "readinessProbe"), ("shop-worker", "startupProbe"), ("shop-worker", "readinessProbe")]


@pytest.mark.parametrize("kind", ["ScaledObject", "HorizontalPodAutoscaler"])
def test_workers_grow_with_the_age_of_the_oldest_task(kind: str) -> None:
    scaler = named(kind)
    assert scaler["spec"]["scaleTargetRef"]["name"] == named("Deployment")["metadata"]["name"]
    [metric] = [family.name for family in OF_THE_QUEUE if "oldest" in family.name]
    assert metric in yaml.safe_dump(scaler)
    assert "replicas" not in named("Deployment")["spec"]


def test_keda_is_told_what_its_prometheus_scaler_requires() -> None:
    spec = named("ScaledObject")["spec"]
    [trigger] = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert trigger["metricType"] == "Value"
    assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert "cooldownPeriod" not in spec  # which is about scaling to none
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"  # never fewer because Prometheus is away


def test_selectors_choose_the_pods_they_mean() -> None:
    for kind, name in (("Deployment", "shop-web"), ("Deployment", "shop-worker")):
        labels = named(kind, name)["spec"]["template"]["metadata"]["labels"]
        assert named(kind, name)["spec"]["selector"]["matchLabels"] == labels
        assert named("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels
    assert (
        named("Service", "web")["spec"]["selector"]
        == named("Deployment", "shop-web")["spec"]["selector"]["matchLabels"]
    )
