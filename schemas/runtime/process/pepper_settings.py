"""Settings that are peppers: of API keys and signed keys, and of webhooks; each of the processes that need them."""

from __future__ import annotations

from pydantic import SecretStr, field_validator

from schemas.peppers import PEPPER_CHARS_MIN, Peppers
from schemas.runtime.process.settings import ProcessSettings


class WebhookPepperSettings(ProcessSettings):
    """Settings of the two processes that know secrets of webhooks: the same in both."""

    webhook_pepper: SecretStr | None = None
    """What the secrets of webhooks are derived with, 32 characters or more; the same on every dispatcher and in the control
    plane. Without it there are no webhooks."""
    webhook_pepper_previous: SecretStr | None = None
    """The one before it: what is sent is signed with both while it is given."""

    @field_validator("webhook_pepper", "webhook_pepper_previous", mode="before")
    @classmethod
    def _no_webhook_pepper(cls, pepper: object) -> object:
        return None if pepper == "" else pepper

    @field_validator("webhook_pepper", "webhook_pepper_previous")
    @classmethod
    def _is_long_webhook_pepper(cls, pepper: SecretStr | None) -> SecretStr | None:
        return long_enough(pepper)

    @property
    def webhook_peppers(self) -> Peppers:
        """What secrets of webhooks are derived with; none without a current one."""
        if self.webhook_pepper is None:
            return Peppers(())
        return peppers_of(self.webhook_pepper, self.webhook_pepper_previous)


class PepperSettings(ProcessSettings):
    """Settings of the two processes that make API keys and tell them: the same in both."""

    key_pepper: SecretStr
    """What API keys are hashed with, 32 characters or more; the same on every ingress and in the control plane."""
    key_pepper_previous: SecretStr | None = None
    """The one before it: keys that were hashed with it go on working while it is given."""

    signing_pepper: SecretStr | None = None
    """What the signing secrets of signed keys are derived with, likewise; without it there are no signed keys."""
    signing_pepper_previous: SecretStr | None = None
    """The one before it: signing secrets that were derived with it go on working while it is given."""

    @field_validator(
        "key_pepper_previous", "signing_pepper", "signing_pepper_previous", mode="before"
    )
    @classmethod
    def _none_when_empty(cls, pepper: object) -> object:
        return None if pepper == "" else pepper

    @field_validator(
        "key_pepper", "key_pepper_previous", "signing_pepper", "signing_pepper_previous"
    )
    @classmethod
    def _is_long(cls, pepper: SecretStr | None) -> SecretStr | None:
        return long_enough(pepper)

    @property
    def key_peppers(self) -> Peppers:
        """What API keys are hashed with."""
        return peppers_of(self.key_pepper, self.key_pepper_previous)

    @property
    def signing_peppers(self) -> Peppers:
        """What signing secrets are derived with; none without a current one."""
        if self.signing_pepper is None:
            return Peppers(())
        return peppers_of(self.signing_pepper, self.signing_pepper_previous)


def long_enough(pepper: SecretStr | None) -> SecretStr | None:
    """The pepper, if there is one. Raises ``ValueError`` for one that may be guessed."""
    if pepper is not None and len(pepper.get_secret_value()) < PEPPER_CHARS_MIN:
        raise ValueError(
            f"needs {PEPPER_CHARS_MIN} characters or more; `openssl rand -hex 32` makes some"
        )
    return pepper


def peppers_of(*secrets: SecretStr | None) -> Peppers:
    """The peppers among them, in this order."""
    given = (secret.get_secret_value().encode() for secret in secrets if secret is not None)
    return Peppers(tuple(given))
