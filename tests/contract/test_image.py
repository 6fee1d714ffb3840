"""The image: what it copies, what it installs, as whom it runs, how its health is judged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import Any

from tests.contract.container_files import (
    DOCKER,
    ROOT,
    image_environment,
    instructions,
    services,
)

EMBEDDED_ONLY = {
    line
    for line in (DOCKER / "embedded-only.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
}
ROLES = ("ingress", "limiter_worker", "dispatcher", "accounting")

LOADS_EVERYTHING = """
import importlib, pkgutil, sys
blocked = sys.argv[1].split(",")
sys.modules.update(dict.fromkeys(blocked))
for role in sys.argv[2].split(","):
    package = importlib.import_module(role)
    for module in pkgutil.walk_packages(package.__path__, role + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import deploy.desired_state.plan, deploy.docker.ready, deploy.embedded.example_backend
from tests.support.command_line import parsed
parsed(["topics", "apply"])
"""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(file: str) -> dict[str, str]:
    """Versions by package, each with its marker."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(.+?) \\$", text, re.MULTILINE))


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=~!\[; ]", requirement)[0] for requirement in requirements}


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    """The list of what may be copied leaves out everything else."""
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source
        for keyword, rest in instructions()
        if keyword == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }

    assert "*" in ignore
    assert all((ROOT / source).exists() for source in copied)
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


def test_every_package_of_the_project_is_copied() -> None:
    """A new process that is not in the image would be noticed in production only."""
    copied = {rest.split()[-1] for keyword, rest in instructions() if keyword == "COPY"}

    assert set(pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied


def test_the_image_starts_the_console_script_as_nobody() -> None:
    """A numeric user, which Kubernetes can tell from root."""
    given = dict(instructions())
    (script,) = json.loads(given["ENTRYPOINT"])

    assert script in pyproject()["project"]["scripts"]
    assert given["USER"] == "10001:10001"
    assert given["WORKDIR"] == image_environment()["TALLYGATE_DATA_DIR"]


def test_the_base_image_is_the_python_that_is_tested() -> None:
    """Both stages, or what was compiled in the first does not fit the second."""
    bases = [rest.split()[0] for keyword, rest in instructions() if keyword == "FROM"]

    assert bases == [f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"] * 2


def test_the_health_check_of_the_image_asks_what_compose_asks() -> None:
    """Whichever of the four processes a container runs, one of the addresses is its own."""
    probe = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD ")[2])
    processes = [
        s for s in services().values() if "TALLYGATE_INSTANCE_ID" in s.get("environment", {})
    ]
    asked = [service["healthcheck"]["test"] for service in processes]

    assert {tuple(test[1:-1]) for test in asked} == {tuple(probe[:3])}
    urls = {test[-1] for test in asked}
    # And the control plane under mutual TLS, which compose leaves out.
    over_tls = {url.replace("http:", "https:") for url in urls if ":8443" in url}
    assert urls | over_tls == set(probe[3:])


def test_the_image_installs_the_versions_that_are_tested() -> None:
    """Its lock is a part of the one that the tests ran with, down to the markers."""
    image, tested = locked("requirements-runtime.lock"), locked("requirements.lock")

    assert len(image) > 40
    assert image.items() <= tested.items()


def test_the_image_installs_all_it_needs_and_no_tools() -> None:
    """Every dependency but those of the embedded stack; nothing for developers."""
    image = set(locked("requirements-runtime.lock"))
    needed = names_of(pyproject()["project"]["dependencies"])

    assert needed > EMBEDDED_ONLY
    assert needed - EMBEDDED_ONLY <= image
    assert not image & EMBEDDED_ONLY
    assert not image & (names_of(pyproject()["dependency-groups"]["dev"]) - needed)


def test_every_package_in_the_lock_has_its_hashes() -> None:
    """With --require-hashes a package without one stops the build."""
    text = (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8")
    entries = [
        entry for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE) if "==" in entry
    ]
    run = " ".join(rest for keyword, rest in instructions() if keyword == "RUN")

    assert len(entries) == len(locked("requirements-runtime.lock"))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "--require-hashes --only-binary :all: -r requirements-runtime.lock" in run


def test_the_processes_run_without_what_the_image_leaves_out() -> None:
    """Java, the resolver and the embedded store are imported by `tallygate up` only."""
    arguments = (",".join(sorted(EMBEDDED_ONLY)), ",".join(ROLES))
    done = subprocess.run(
        [sys.executable, "-c", LOADS_EVERYTHING, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
