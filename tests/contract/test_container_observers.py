"""What looks on in docker-compose.yml, and the keys of the configuration: who has which file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.docker.config_keys import make_keys
from deploy.reference.chart_facts import COMPONENTS
from schemas.config_signing import read_signer, read_verifier
from tests.contract.container_files import COMPOSE_FILE, DOCKER, ROOT, environment, services

OBSERVE = DOCKER / "observe"
RULES = ROOT / "deploy" / "prometheus"
SIGNERS = {"admin": "admin", "accounting": "accounting", "topics-init": "admin"}
"""Services that write the configuration, and whose key they have."""


def mounts(service: str) -> dict[str, str]:
    """Volume or folder -> place in the container, of those that are read only without their mark."""
    found = {}
    for mount in services()[service].get("volumes", []):
        source, place, *_ = mount.split(":")
        found[source] = place
    return found


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_prometheus_scrapes_every_process_where_it_listens() -> None:
    """On the port that its health check asks."""
    targets = {
        target
        for job in read(RULES / "prometheus.yml")["scrape_configs"]
        for configured in job["static_configs"]
        for target in configured["targets"]
    }
    asked = {
        f"{name}:{urlsplit(services()[name]['healthcheck']['test'][-1]).port}"
        for name in COMPONENTS
    }

    assert targets == asked


def test_files_are_mounted_where_they_are_read() -> None:
    """Rules, dashboards, and who is asked for figures."""
    prometheus, grafana = mounts("prometheus"), mounts("grafana")
    (config, *_) = services()["prometheus"]["command"]
    folder = prometheus["./deploy/prometheus"]
    rules = read(RULES / "prometheus.yml")["rule_files"]
    (provider,) = read(OBSERVE / "grafana" / "dashboards" / "tallygate.yml")["providers"]
    (source,) = read(OBSERVE / "grafana" / "datasources" / "prometheus.yml")["datasources"]

    assert config == f"--config.file={folder}/prometheus.yml"
    assert {path.name for path in RULES.glob("*.yml")} == {*rules, "prometheus.yml"}
    assert provider["options"]["path"] == grafana["./deploy/grafana"]
    assert (
        grafana["./deploy/docker/observe/grafana"]
        == environment(services()["grafana"])["GF_PATHS_PROVISIONING"]
    )
    assert source["url"] == "http://prometheus:9090"


def test_the_collector_uses_what_it_declares() -> None:
    """Its file is the one that it is started with."""
    file = read(OBSERVE / "collector.yml")
    (traces,) = file["service"]["pipelines"].values()
    ((source, place),) = mounts("collector").items()

    assert (COMPOSE_FILE.parent / source).samefile(OBSERVE / "collector.yml")
    assert services()["collector"]["command"] == [f"--config={place}"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(traces[kind]) == set(file[kind])


def test_grafana_has_no_user_whose_password_everybody_knows() -> None:
    """It shows and lets nobody change."""
    told = environment(services()["grafana"])

    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_a_private_key_is_mounted_by_its_process_alone() -> None:
    """And by the service that makes it; the public ones everybody reads."""
    for name in services():
        had = {source for source in mounts(name) if source.startswith("config-")}
        if name == "config-keys":
            assert had == {"config-public", "config-admin", "config-accounting"}
            continue
        wanted = {f"config-{SIGNERS[name]}"} if name in SIGNERS else set()
        wanted |= {"config-public"} if name in COMPONENTS else set()
        assert had == wanted, name


@pytest.mark.parametrize("name", [*COMPONENTS, "topics-init"])
def test_each_is_told_where_its_keys_are(name: str) -> None:
    """The places are those that the maker writes to, as they are mounted."""
    told, made = environment(services()[name]), mounts("config-keys")
    if name in COMPONENTS:
        assert told["TALLYGATE_CONFIG_VERIFY_KEYS_FILE"] == f"{made['config-public']}/keys"
    if name in SIGNERS:
        place = f"{made[f'config-{SIGNERS[name]}']}/key"
        assert told["TALLYGATE_CONFIG_SIGNING_KEY_FILE"] == place
    for source, place in mounts(name).items():
        assert not source.startswith("config-") or place == made[source]


def test_folders_of_keys_belong_to_the_user_of_the_image() -> None:
    """A new volume is whose its folder in the image is."""
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    (root,) = services()["config-keys"]["command"]

    for source, place in mounts("config-keys").items():
        assert place in dockerfile, source
        assert Path(place).parent == Path(root)


def test_keys_are_made_once_and_fit_each_other(tmp_path: Path) -> None:
    """A start after it finds them; what an interrupted one left is gone on with."""
    for name in ("public", "admin", "accounting"):
        (tmp_path / name).mkdir()

    assert make_keys(tmp_path)
    public = tmp_path / "public" / "keys"
    before = public.read_text()
    verifier = read_verifier(before)
    assert verifier is not None
    for name in ("admin", "accounting"):
        key = tmp_path / name / "key"
        signer = read_signer("admin" if name == "admin" else "accounting", key.read_text())
        assert (name, signer.public) in verifier.listed
        assert key.stat().st_mode & 0o777 == 0o440
    assert not make_keys(tmp_path)

    public.unlink()
    assert make_keys(tmp_path)
    assert public.read_text() == before


def test_what_compose_mounts_from_here_exists() -> None:
    """Or an engine would make an empty folder of it."""
    ours = [s for name in services() for s in mounts(name) if s.startswith("./")]

    assert len(ours) >= 5
    assert [source for source in ours if not (ROOT / source).exists()] == []
