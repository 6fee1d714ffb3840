"""What ingress is told by its environment."""

from __future__ import annotations

from typing import Final

from pydantic import Field, SecretStr, field_validator

from ingress.auth.callers_file import CallersFile, read_callers_file
from ingress.files.settings import FileSettings
from ingress.http.cross_origin import read_origins
from ingress.request_settings import RequestSettings
from schemas.networks import network_problem
from schemas.runtime.process.pepper_settings import PepperSettings

MIB: Final = 1024 * 1024


def read_list(listed: str) -> tuple[str, ...]:
    """The parts of a comma-separated setting."""
    return tuple(part.strip() for part in listed.split(",") if part.strip())


class IngressSettings(RequestSettings, PepperSettings, FileSettings):
    """Settings of the ingress process, prefix ``TALLYGATE_``."""

    port: int = 8080
    """Port of the public API."""
    grpc_port: int = Field(default=8081, ge=0, le=65_535)
    """Port of the same API over gRPC; none is opened when it is 0, and nothing of gRPC is loaded."""
    max_body_bytes: int = Field(default=4 * MIB, ge=1_024, le=4 * MIB)
    """Bytes of one body; a larger one is answered 413."""
    inflight_max: int = Field(default=4_096, ge=1)
    """Requests that may wait at once; more are answered 503 at the door."""
    body_bytes_max: int = Field(default=64 * MIB, ge=MIB)
    """Bytes of bodies that ingress holds at once; an organization has a fourth of them."""
    connections_max: int = Field(default=4_096, ge=16)
    """Client connections at once, as far as the limit of open files allows."""
    org_inflight_max: int | None = Field(default=None, ge=1)
    """How many of them may be of one organization; a fourth when not given."""
    key_bytes_per_s: int = Field(default=32 * MIB, ge=1_024)
    """Bytes of bodies that a key may send in a second, and twice as many at once."""
    jobs_max: int = Field(default=10_000, ge=1)
    """Jobs of one organization that are remembered, for three days; more are answered 429."""
    drain_s: float = Field(default=20.0, gt=0, le=3_600)
    """How long running requests may take to end once the process is told to: what the platform gives it
    before it kills, less fifteen seconds for last words and for what is still on its way to the log."""
    notice_s: float = Field(default=0.0, ge=0, le=60)
    """How long the process still takes requests after it was told to end, while readiness says that it leaves: what your
    load balancer needs to notice. It comes before, and on top of, the time for running requests."""
    deadline_default_s: float | None = Field(default=None, gt=0, le=600)
    """How long a request has that is no stream and states no deadline; two minutes when not given."""
    deadline_max_s: float | None = Field(default=None, gt=0, le=600)
    """How long any request has at most, and a stream that states no deadline; ten minutes when not given."""
    cors_origins: str = ""
    """Origins of the pages whose browsers are served, exactly as these send them: `https://chat.example.com,http://localhost:5173`.
    When empty, browsers are not served: they keep the answers to themselves."""

    trusted_proxies: str = ""
    """Networks of proxies whose `X-Forwarded-For` is believed where a key may be used from some networks only:
    `10.0.0.0/8,2001:db8::/32`. They must append the address of whoever they forward for. When empty, the address of the
    connection counts, which behind a proxy is the proxy's."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, listed: str) -> str:
        for network in read_list(listed):
            if problem := network_problem(network):
                raise ValueError(problem)
        return listed

    @property
    def proxies(self) -> tuple[str, ...]:
        """Networks of trusted proxies."""
        return read_list(self.trusted_proxies)

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, listed: str) -> str:
        read_origins(listed)
        return listed

    @property
    def origins(self) -> frozenset[bytes]:
        """Origins whose pages are served."""
        return read_origins(self.cors_origins)

    callers_file: str = ""
    """File in TOML that says which identity providers are believed and which user-org service is asked
    (docs/callers.md); only API keys are known without one."""
    user_org_token: SecretStr | None = None
    """What the user-org service of that file knows the gateway by."""

    @field_validator("callers_file")
    @classmethod
    def _is_a_callers_file(cls, path: str) -> str:
        read_callers_file(path)
        return path

    @property
    def callers(self) -> CallersFile:
        """Who vouches for callers without an API key."""
        return read_callers_file(self.callers_file)

    @property
    def deadlines_s(self) -> tuple[float, float]:
        """How long a request has, in seconds: where it says nothing, and at most."""
        times = self.times
        return (
            self.deadline_default_s or times.deadline_default_ms / 1_000,
            self.deadline_max_s or times.deadline_max_ms / 1_000,
        )

    @property
    def flex_s(self) -> tuple[float, float]:
        """The same of a flex request, which waits for room."""
        times = self.times
        return times.flex_deadline_default_ms / 1_000, times.flex_deadline_max_ms / 1_000

    @property
    def org_share(self) -> int:
        """Requests of one organization that may wait at once."""
        return self.org_inflight_max or max(1, self.inflight_max // 4)
