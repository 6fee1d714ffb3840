"""A child of the stack sees what it needs of the environment and nobody's secret but its own."""

from __future__ import annotations

import pytest

from deploy.embedded.environment import for_java, for_python, for_role, for_server
from deploy.embedded.problem import StackError
from deploy.embedded.roles import ROLES
from deploy.embedded.state import UserFolders
from deploy.embedded.up import UpOptions, make_plan

SHELL = {
    "PATH": "/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "LD_LIBRARY_PATH": "/lib",
    "PYTHONPATH": "/src",
    "JAVA_TOOL_OPTIONS": "-Xss1m",
    "SSL_CERT_FILE": "/ca.pem",
}
TALLYGATE = {
    "TALLYGATE_LOG_LEVEL": "DEBUG",
    "TALLYGATE_KEY_PEPPER": "pepper-of-the-shell",
    "TALLYGATE_INFLIGHT_MAX": "7",
    "TALLYGATE_CONCURRENCY": "9",
    "RATE_LIMIT_DEFAULT_RPS": "5",
    "TALLYGATE_TEST_X": "1",
}
SECRETS = {
    "BACKEND_A_API_KEY": "key-a",
    "BACKEND_my_gpu_API_KEY": "key-b",
    "OPENAI_API_KEY": "sk",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "HTTP_PROXY": "http://user:secret@proxy",
    "https_proxy": "http://user:secret@proxy",
    "NO_PROXY": "secret.example",
    "SSH_AUTH_SOCK": "/agent",
    "PATH_TO_SECRET": "secret",
}
CHOSEN_VARIABLES = {"HTTP_PORT", "REDIS_ADDR", "RATE_LIMIT_REDIS_ADDR", "KAFKA_BROKERS"}
EVERYTHING = SHELL | TALLYGATE | SECRETS
BACKEND_KEYS = {"BACKEND_A_API_KEY", "BACKEND_my_gpu_API_KEY"}


@pytest.mark.parametrize("role", ROLES)
def test_a_process_gets_its_own_settings_and_no_secret_of_another(role: str) -> None:
    """Backends' keys are for the dispatcher alone, and the pepper for who makes and tells keys."""
    seen = for_role(role, EVERYTHING)

    assert set(seen) & set(SECRETS) == (BACKEND_KEYS if role == "dispatcher" else set())
    assert ("TALLYGATE_KEY_PEPPER" in seen) is (role in ("admin", "ingress"))
    assert ("TALLYGATE_INFLIGHT_MAX" in seen) is (role == "ingress")
    assert ("TALLYGATE_CONCURRENCY" in seen) is (role == "dispatcher")
    assert role != "limiter_worker" or "RATE_LIMIT_DEFAULT_RPS" in seen
    assert {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"} <= set(seen)
    assert {"TALLYGATE_LOG_LEVEL", "TALLYGATE_TEST_X"} <= set(seen)


def test_stores_broker_and_example_backends_get_no_setting_and_no_secret() -> None:
    """They are others' programs, or play one."""
    system = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH"}

    assert set(for_server(EVERYTHING)) == system
    assert set(for_java(EVERYTHING)) == system | {"JAVA_TOOL_OPTIONS"}
    assert set(for_python(EVERYTHING)) == system | {"PYTHONPATH"}


@pytest.mark.parametrize("role", ROLES)
def test_a_process_gets_the_files_of_its_settings_and_what_the_specification_says_of_them(
    role: str,
) -> None:
    """But not what the stack itself gives it, which another variable would contradict."""
    shell = {
        "TALLYGATE_KEY_PEPPER_FILE": "/run/pepper",
        "BACKEND_A_API_KEY_FILE": "/run/key",
        "SERVICE_NAME": "router",
        "HTTP_PORT": "1",
        "REDIS_ADDR": "a:1",
        "KAFKA_BROKERS": "k:1",
    }

    seen = set(for_role(role, shell))

    assert ("TALLYGATE_KEY_PEPPER_FILE" in seen) is (role in ("admin", "ingress"))
    assert ("BACKEND_A_API_KEY_FILE" in seen) is (role == "dispatcher")
    assert seen.isdisjoint(CHOSEN_VARIABLES)
    assert "SERVICE_NAME" in seen


@pytest.mark.parametrize(
    "name", [*sorted(CHOSEN_VARIABLES - {"HTTP_PORT"}), "CONFIG_SERVICE_ENDPOINT"]
)
def test_the_stack_refuses_a_variable_that_it_cannot_follow(name: str) -> None:
    """It brings its own broker and stores; what it would ignore, somebody meant."""
    with pytest.raises(StackError, match=f"{name}: "):
        make_plan(UpOptions(), UserFolders(), {name: "elsewhere:1"})


def test_the_port_of_the_api_is_told_by_the_option_or_the_variable() -> None:
    """And not by both, unless they agree."""

    def port(option: int | None, variable: str) -> int | None:
        plan = make_plan(UpOptions(port=option), UserFolders(), {"HTTP_PORT": variable})
        return plan.stack.explicit_ports.get("ingress-0")

    assert (port(None, "8081"), port(8081, "8081"), port(8082, ""), port(None, "")) == (
        8081,
        8081,
        8082,
        None,
    )
    with pytest.raises(StackError, match="HTTP_PORT is 8081"):
        port(8080, "8081")
