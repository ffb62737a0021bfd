"""One request at a time to one host: paced, retried, in time, and the token goes nowhere else."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from aftersales.collect.channels import Basic, Header, RestSettings
from aftersales.collect.credentials import Secret, secret_value, without_secrets
from aftersales.model.errors import SourceError

REDIRECTS = 5
LARGEST_BYTES = 512 << 20
AGAIN = (408, 425, 429, 500, 502, 503, 504)
LONGEST_BACK_OFF_S = 60.0


@dataclass(frozen=True)
class Clock:
    """Time, and how to let it pass; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    sleep: Callable[[float], None] = time.sleep


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True)
class Answer:
    """A body in JSON, and the address of the next page where the Link header names one."""

    body: Any
    url: str
    next_link: str | None


class _AgainError(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, said: str, after_s: float | None = None) -> None:
        super().__init__(said)
        self.after_s = after_s


class Web:
    """A client for the host of `settings.url`.

    Parameters
    ----------
    settings
        Address, token, pace and time limits.
    where
        Names the source in messages.
    """

    def __init__(self, settings: RestSettings, where: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings, self._where, self._clock = settings, where, clock
        self._secrets: list[str] = []
        self._token = self._token_headers()
        self._earliest = 0.0
        self._client = httpx.Client(timeout=settings.timeout_s, follow_redirects=False, headers=settings.headers)

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str, parameters: Mapping[str, Any] | None = None) -> Answer:
        """The answer to a GET; attempts that may yet succeed are repeated.

        Raises
        ------
        SourceError
            Refused, not found, not JSON, sent to another host, or failing to the last attempt.
        """
        attempts = Retrying(
            stop=stop_after_attempt(self._settings.retries + 1),
            wait=self._pause,
            sleep=self._clock.sleep,
            retry=retry_if_exception_type(_AgainError),
            reraise=True,
        )
        try:
            return attempts(self._attempt, url, dict(parameters or {}))
        except _AgainError as error:
            raise self._problem(
                url,
                f"gave no answer in {self._settings.retries + 1} attempts: {error}",
                "run the ingest again later; what came before is kept where the service allows it",
            ) from None

    def _attempt(self, url: str, parameters: dict[str, Any]) -> Answer:
        for _ in range(REDIRECTS + 1):
            self._check_host(url)
            self._wait_for_turn()
            try:
                asked = httpx.URL(url).copy_merge_params(parameters)  # what the address asks for stays
                with self._client.stream("GET", asked, headers=self._token) as response:
                    if response.has_redirect_location:
                        url, parameters = str(response.url.join(response.headers["location"])), {}
                        continue
                    self._check_status(url, response)
                    body = self._read(response)
                return self._answer(response, body)
            except (httpx.TransportError, httpx.DecodingError) as error:  # timeouts and dropped connections among them
                raise _AgainError(self._hidden(f"{type(error).__name__} {error}".strip())) from error
        raise self._problem(url, f"redirects more than {REDIRECTS} times", "mend 'url' in the source's YAML")

    # ------------------------------------------------------------------------------------------- what may be asked

    def _check_host(self, url: str) -> None:
        """Nothing, and above all no token, goes to another host, or from https to http."""
        ours, theirs = httpx.URL(self._settings.url), httpx.URL(url)
        same = (ours.host, ours.port) == (theirs.host, theirs.port) and ours.scheme == theirs.scheme
        upgraded = ours.host == theirs.host and (ours.scheme, theirs.scheme) == ("http", "https")
        if not same and not upgraded:
            raise self._problem(
                self._settings.url,
                f"sends us on to {theirs.scheme}://{theirs.netloc.decode('ascii', 'replace').rpartition('@')[2]}",
                "if that is the service's new home, write it as 'url': the token is not sent to another host",
            )

    def _wait_for_turn(self) -> None:
        now = self._clock.monotonic()
        if now < self._earliest:
            self._clock.sleep(self._earliest - now)
        self._earliest = max(now, self._earliest) + 1 / self._settings.requests_per_second

    def _token_headers(self) -> dict[str, str]:
        auth = self._settings.auth
        if auth is None:
            return {}
        if isinstance(auth, Basic):
            user = secret_value(auth.user, self._where) if isinstance(auth.user, Secret) else auth.user
            pair = base64.b64encode(f"{user}:{self._secret(auth.password)}".encode()).decode()
            self._secrets.append(pair)
            return {"Authorization": f"Basic {pair}"}
        if isinstance(auth, Header):
            return {auth.header: f"{auth.prefix}{self._secret(auth.token)}"}
        return {"Authorization": f"Bearer {self._secret(auth.token)}"}

    def _secret(self, secret: Secret) -> str:
        value = secret_value(secret, self._where)
        if not value.isprintable():
            raise SourceError(
                self._where,
                f"the secret in {secret.env or secret.keyring} has characters that fit in no header",
                rows="nothing was fetched",
                fix="store it again, without line breaks",
            )
        self._secrets.append(value)
        return value

    # --------------------------------------------------------------------------------------------- what comes back

    def _check_status(self, url: str, response: httpx.Response) -> None:
        status = response.status_code
        if status < 400:
            return
        said = f"answers {status} {response.reason_phrase}".strip()
        if status in AGAIN:
            after = _retry_after(response.headers.get("retry-after", ""), self._clock.now())
            if after is not None and after > self._settings.wait_at_most_s:
                raise self._problem(
                    url, f"{said} and asks to wait {after:,.0f} s", "run the ingest later, or ask for a higher limit"
                )
            raise _AgainError(said, after)
        cures = {
            401: "check the token, and whether it has expired",
            403: "ask for the right to read this; the token is known but may not",
            404: "mend 'url' in the source's YAML",
            410: "the service has withdrawn this address: mend 'url' in the source's YAML",
        }
        raise self._problem(url, said, cures.get(status, "mend 'url', 'parameters' or 'since' in the source's YAML"))

    def _read(self, response: httpx.Response) -> bytes:
        started, blocks, size = self._clock.monotonic(), [], 0
        for block in response.iter_bytes():
            blocks.append(block)
            size += len(block)
            if self._clock.monotonic() - started > self._settings.response_s:
                raise _AgainError(f"its answer took more than {self._settings.response_s:g} s")
            if size > LARGEST_BYTES:
                raise self._problem(
                    str(response.url), f"one answer is over {LARGEST_BYTES >> 20} MB", "ask for smaller pages"
                )
        return b"".join(blocks)

    def _answer(self, response: httpx.Response, body: bytes) -> Answer:
        try:
            text = body.decode(response.charset_encoding or json.detect_encoding(body))
            content = json.loads(text.removeprefix("\ufeff"), parse_constant=lambda word: None)
        except (ValueError, LookupError, RecursionError):
            kind = response.headers.get("content-type", "no type").partition(";")[0]
            raise _AgainError(f"{len(body):,} bytes of {kind} that are no JSON, or not all of it") from None
        link = response.links.get("next", {}).get("url")
        return Answer(content, str(response.url), str(response.url.join(link)) if link else None)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _AgainError) and error.after_s is not None:
            return error.after_s
        return wait_random_exponential(multiplier=1, max=LONGEST_BACK_OFF_S)(state)

    def _hidden(self, text: str) -> str:
        return without_secrets(text, self._secrets)

    def _problem(self, url: str, what: str, fix: str) -> SourceError:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return SourceError(
            self._where, self._hidden(f"{host}{parts.path} {what}"), rows="this page and those after it", fix=fix
        )


def _retry_after(text: str, now: dt.datetime) -> float | None:
    """Seconds to wait: a number, or a date as HTTP writes it; None where it says neither.

    Examples
    --------
    >>> _retry_after("0.3", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    0.3
    >>> _retry_after("Thu, 01 Jan 2026 00:00:05 GMT", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    5.0
    """
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or dt.UTC) - now).total_seconds(), 0.0)
