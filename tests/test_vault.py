"""The vault: keys per person, sealed texts, shredded keys, the master key above them."""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TestWorkspace
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from aftersales.lake.vault import (
    CUSTOMER,
    ERASED,
    KEY_VARIABLE,
    STAFF,
    UNREADABLE,
    Passages,
    Vault,
    master_key,
    open_vault,
    pseudonyms,
)
from aftersales.model.errors import SettingsError

MONTH = "ticket@2026-03"
NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
KEY = b"k" * 32


def seal(vault: Vault, texts: list[str | None], subjects: list[str | None], month: str = MONTH) -> list[str | None]:
    return vault.seal(texts, subjects, [month] * len(texts))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "private" / "vault.db", KEY)


def test_a_sealed_text_opens_again_and_is_the_same_each_time(vault: Vault) -> None:
    texts = ["门锁打不开", "", "a" * 5000, None, "emoji 🔒 \ud800"]
    sealed = seal(vault, texts, ["c_a"] * 5)
    assert sealed == seal(vault, texts, ["c_a"] * 5)
    assert vault.unseal(sealed) == texts
    assert all(text is None or text.startswith("sealed:v1:") for text in sealed)
    assert "门锁" not in str(sealed)


def test_two_persons_never_share_a_key(vault: Vault) -> None:
    one, other, again = seal(vault, ["same"] * 3, ["c_a", "c_b", "c_a"])
    assert one == again != other


def test_what_is_not_sealed_is_left_as_it_is(vault: Vault) -> None:
    assert vault.unseal(["plain", None, "sealed: by hand"]) == ["plain", None, "sealed: by hand"]


def test_nothing_is_sealed_without_a_subject(vault: Vault) -> None:
    assert seal(vault, ["text"], [None]) == [None]


def test_an_erased_persons_text_cannot_be_read_and_no_new_key_is_made(vault: Vault) -> None:
    sealed = seal(vault, ["mine", "yours"], ["c_a", "c_b"])
    assert vault.erase(["c_a", "c_unknown"], reason="asked", now=NOW) == 1
    assert vault.unseal(sealed) == [ERASED, "yours"]
    assert seal(vault, ["more", "more"], ["c_a", "c_unknown"]) == [None, None]
    assert set(vault.erased()) == {"c_a", "c_unknown"}
    reopened = Vault(vault.path, KEY)
    assert reopened.unseal(sealed) == [ERASED, "yours"]


def test_the_bytes_of_a_shredded_key_are_gone_from_the_file_and_its_log(vault: Vault) -> None:
    seal(vault, ["mine"], ["c_a"])
    (wrapped,) = vault._connection.execute("select wrapped from subject_key where subject = 'c_a'").fetchone()
    files = [path for path in vault.path.parent.iterdir() if path.name.startswith("vault.db")]
    assert any(wrapped in path.read_bytes() for path in files)
    vault.erase(["c_a"], reason="asked", now=NOW)
    files = [path for path in vault.path.parent.iterdir() if path.name.startswith("vault.db")]
    assert not any(wrapped in path.read_bytes() for path in files)


def test_the_end_of_a_period_takes_every_text_of_that_period_and_no_other(vault: Vault) -> None:
    march = seal(vault, ["a", "b"], ["c_a", "c_b"])
    april = seal(vault, ["a", "b"], ["c_a", "c_b"], "ticket@2026-04")
    assert march != april
    vault.erase([MONTH], reason="retention", now=NOW)
    assert vault.unseal(march) == [ERASED, ERASED]
    assert vault.unseal(april) == ["a", "b"]
    assert seal(vault, ["a"], ["c_a"]) == [None]


def test_another_process_that_erases_is_seen_at_once(vault: Vault) -> None:
    sealed = seal(vault, ["mine"], ["c_a"])
    assert vault.unseal(sealed) == ["mine"]
    Vault(vault.path, KEY).erase(["c_a"], reason="asked", now=NOW)
    assert vault.unseal(sealed) == [ERASED]


def test_two_that_want_the_same_new_key_get_the_same(vault: Vault) -> None:
    other = Vault(vault.path, KEY)
    subjects = [f"c_{i}" for i in range(2_000)]
    assert seal(vault, ["x"] * 2_000, subjects) == seal(other, ["x"] * 2_000, subjects)
    assert seal(vault, ["x"], ["c_new"]) == seal(other, ["x"], ["c_new"])


def test_a_text_of_another_vault_is_unreadable_and_not_called_erased(vault: Vault, tmp_path: Path) -> None:
    other = Vault(tmp_path / "other.db", KEY)
    sealed = seal(other, ["a", "b"], ["c_1", "c_2"])
    assert vault.unseal(sealed) == [UNREADABLE] * 2
    seal(vault, ["mine"], ["c_9"])
    assert vault.unseal(sealed) == [UNREADABLE] * 2
    assert vault.unseal(["sealed:v1:x:y", "sealed:v1:1", "sealed:v1:1.2:!!"]) == [UNREADABLE] * 3


def test_a_wrong_master_key_is_refused_before_anything_is_sealed_with_it(vault: Vault) -> None:
    with pytest.raises(SettingsError, match="not the one this vault was made with"):
        Vault(vault.path, b"x" * 32)


def test_the_audit_keeps_every_entry(vault: Vault) -> None:
    vault.note("erase", subject="c_a", by="mei", reason="asked", details={"keys": 1}, now=NOW)
    (entry,) = vault.audit()
    assert (entry["what"], entry["subject"], entry["done_by"], entry["details"]) == ("erase", "c_a", "mei", {"keys": 1})


def test_key_file_and_vault_are_for_the_owner_alone(workspace: TestWorkspace) -> None:
    place = workspace.open()
    seal(open_vault(place), ["x"], ["c_a"])
    for name in ("pseudonym.key", "vault.db"):
        assert stat.S_IMODE((workspace.root / "data" / "private" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((workspace.root / "data" / "private").stat().st_mode) == 0o700


def test_the_environment_goes_before_the_file(workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    place = workspace.open()
    monkeypatch.setenv(KEY_VARIABLE, "a long enough text of my own")
    own = master_key(place)
    assert not (workspace.root / "data").exists()
    monkeypatch.delenv(KEY_VARIABLE)
    assert master_key(place) != own
    assert master_key(place) == master_key(place)


def test_a_short_key_is_refused(workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with pytest.raises(SettingsError, match="has 6 signs, it needs 16"):
        master_key(workspace.open())


def test_of_processes_that_make_the_key_file_together_one_wins(workspace: TestWorkspace) -> None:
    code = (
        "import sys; from aftersales.model.settings import open_workspace; from aftersales.lake.vault import master_key;"
        "print(master_key(open_workspace(sys.argv[1])).hex())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(workspace.root)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


def test_a_pseudonym_is_keyed_short_and_of_its_role(workspace: TestWorkspace) -> None:
    made = pseudonyms(workspace.open())
    customer = made.of("C0000123")
    assert customer == made.of("C0000123") == pseudonyms(workspace.open()).of("C0000123")
    assert customer.startswith(CUSTOMER)
    assert len(customer) == 22
    assert made.of("C0000123", STAFF)[2:] != customer[2:]
    assert "C0000123" not in customer
    plain = base64.b32encode(hmac.digest(b"", b"C0000123", "sha256"))[:20].decode().lower()
    assert customer != CUSTOMER + plain
    assert len({made.of(f"C{i:07d}") for i in range(20_000)}) == 20_000


def test_sealing_costs_a_few_times_the_bare_cipher(vault: Vault) -> None:
    texts = [f"门锁指纹识别不了,换电池也没有用,请尽快处理 {i}" for i in range(40_000)]
    known = [f"c_{i % 4_000}" for i in range(40_000)]
    seal(vault, texts[:4_000], known[:4_000])
    cipher = AESSIV(AESSIV.generate_key(512))

    def seconds(action: Callable[[], Any]) -> float:
        started = time.process_time()
        action()
        return time.process_time() - started

    bare = seconds(lambda: [base64.b64encode(cipher.encrypt(text.encode(), [])) for text in texts])
    assert seconds(lambda: seal(vault, texts, known)) < 10 * bare  # 2 on a quiet machine
    sealed = seal(vault, texts, known)
    assert seconds(lambda: vault.unseal(sealed)) < 15 * bare  # 4


def test_a_rule_of_dashes_in_a_text_is_no_passage_of_it() -> None:
    passages = Passages()
    passages.add("The lock failed.\n" + "-" * 60 + "\nIt opened by itself on the second evening.")
    assert not passages.holds("-" * 75 + "\nZeroDivisionError: division by zero")
    assert passages.holds("he said: It opened by itself on the second evening.")
