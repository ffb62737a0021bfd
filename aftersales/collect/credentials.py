"""Secrets of a channel: named in its YAML, kept in the environment or the keyring, shown nowhere."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from aftersales.model.documents import Document
from aftersales.model.errors import SourceError

HIDDEN = "***"
PLACES = "write {env: NAME}, or {keyring: service/user}"


class Secret(Document):
    """Where a secret is kept; never the secret."""

    env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable")
    keyring: str | None = Field(default=None, pattern=r"^[^/]+/.+$", description="service/user in the system's keyring")

    @model_validator(mode="before")
    @classmethod
    def _never_plain(cls, given: Any) -> Any:
        if isinstance(given, str | int | float):
            raise ValueError(f"a secret does not stand in a YAML: {PLACES}")
        return given

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if (self.env is None) == (self.keyring is None):
            raise ValueError(f"name one place of the secret: {PLACES}")
        return self


def secret_value(secret: Secret, where: str) -> str:
    """The secret itself; keep it out of messages, logs and files.

    Raises
    ------
    SourceError
        The variable or keyring entry is missing or empty; the message names it.
    """
    value = os.environ.get(secret.env, "") if secret.env else _from_keyring(secret.keyring or "", where)
    if value.strip():
        return value.strip()
    if secret.env:
        raise SourceError(
            where,
            f"the environment variable {secret.env} is not set",
            rows="nothing was fetched",
            fix=f"set {secret.env} where the command runs, or name a keyring entry in the YAML",
        )
    raise SourceError(
        where,
        f"the keyring has no entry {secret.keyring}",
        rows="nothing was fetched",
        fix=f"keyring set {(secret.keyring or '').replace('/', ' ', 1)}",
    )


def _from_keyring(entry: str, where: str) -> str:
    import keyring
    import keyring.errors

    service, _, user = entry.partition("/")
    try:
        return keyring.get_password(service, user) or ""
    except keyring.errors.KeyringError as error:
        raise SourceError(
            where,
            f"the keyring cannot be asked for {entry}: {type(error).__name__}",
            rows="nothing was fetched",
            fix="unlock the keyring, or keep the secret in an environment variable: {env: NAME}",
        ) from None


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret, also as it stands in an address, replaced by stars.

    Examples
    --------
    >>> without_secrets("no user bob with pw%2F1 or pw/1", ["pw/1"])
    'no user bob with *** or ***'
    """
    spelled = {form for secret in secrets if secret for form in (secret, urllib.parse.quote(secret, safe=""),
                                                                 urllib.parse.quote_plus(secret))}  # fmt: skip
    for form in sorted(spelled, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text
