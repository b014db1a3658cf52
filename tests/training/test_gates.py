"""Gates: what stops a run, what must not stop it, and that no message repeats what it found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline.errors import DataError
from fineline_training import gates
from fineline_training.leakage import (
    DIGESTS_FILE,
    EvaluationKeys,
    bank_texts,
    digest,
    known_error_texts,
    load_digests,
    write_digests,
)
from fineline_training.personal import (
    BANK_CARD,
    EMAIL,
    IP_ADDRESS,
    PHONE,
    RESIDENT_ID,
    find_personal,
    luhn_valid,
)
from fineline_training.records import Record
from fineline_training.sources import SourceFile
from fineline_training.sources.registry import Source, find_source


def row(text: str, context: str | None = None, source: str = "made_up") -> Record:
    return Record(text=text, context=context, lang="en", labels={"insult": 0}, source=source)


@pytest.fixture
def source() -> Source:
    file = SourceFile(name="a.txt", upstream="a.txt", sha256="0" * 64)
    return replace(find_source("cold"), id="tiny", files=(file,), use={"train": "train"})


# --- licence


def test_licence_gate_passes_permissive_training_sources(source: Source) -> None:
    assert gates.check_licences([source], "train").checked == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [({"use": {"test": "eval"}}, "licence_use"), ({"permissive": False}, "licence_not_permissive")],
)
def test_licence_gate_stops(source: Source, change: dict[str, object], code: str) -> None:
    with pytest.raises(DataError) as caught:
        gates.check_licences([source, replace(source, **change)], "train")  # type: ignore[arg-type]
    assert caught.value.code == code


def test_licence_gate_can_allow_other_licences_on_request(source: Source) -> None:
    assert gates.check_licences([replace(source, permissive=False)], "train", permissive_only=False).checked == 1


@pytest.mark.parametrize("suite", ["hatecheck", "hatecheckhin", "xstest"])
def test_evaluation_suites_may_not_train(suite: str) -> None:
    with pytest.raises(DataError):
        gates.check_licences([find_source(suite)], "train")


# --- provenance


def test_provenance_gate_names_missing_and_altered_files(source: Source, tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        gates.check_provenance([source], tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/a.txt").write_text("altered")
    with pytest.raises(DataError) as altered:
        gates.check_provenance([source], tmp_path)
    assert (missing.value.code, altered.value.code) == ("provenance_missing", "provenance_hash")
    assert "tiny: a.txt" in altered.value.message


# --- personal data


def resident_id(body: str) -> str:
    """Complete a made-up 17-digit body with its check character."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


def card(body: str) -> str:
    """Complete a made-up card number with its Luhn digit."""
    return next(body + str(digit) for digit in range(10) if luhn_valid(body + str(digit)))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jo.doe@mail-host.net please", EMAIL),
        ("邮箱jo@mail-host.cn谢谢", EMAIL),
        ("电话13912345678找我", PHONE),
        ("call +86 139-1234-5678", PHONE),
        ("固话010-87654321", PHONE),
        ("call (212) 456-7890 now", PHONE),
        ("ring +44 20 7123 4567", PHONE),
        ("โทร 081-234-5678", PHONE),
        ("โทร0812345678", PHONE),
        ("010-1234-5678 로 연락", PHONE),
        ("身份证" + resident_id("11010119900307123"), RESIDENT_ID),
        ("卡号 " + card("622202120000123456"), BANK_CARD),
        ("card 5105 1051 0510 5100", BANK_CARD),
        ("gọi 0912345678", PHONE),
        ("server 8.8.4.4 is down", IP_ADDRESS),
        ("at 2001:4860:4860::8888 now", IP_ADDRESS),
    ],
)
def test_personal_data_is_found(text: str, kind: str) -> None:
    assert find_personal(text) == kind
    with pytest.raises(DataError) as caught:
        gates.check_personal_data([row("fine"), row("fine", context=text)])
    assert caught.value.code == "personal_data"
    assert kind in caught.value.message
    assert text not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "write to jo@example.com or jo@mail.example.org",
        "root@localhost and a@b.test",
        "call 212-555-0147",
        "ring 07700 900123",
        "填写 13800000000 作为占位",
        "拨打400-820-8820或110",
        "订单号202311220001234567",
        "4111 1111 1111 1111 is the test card",
        "1234567890123456",
        "router at 192.168.1.1, docs use 203.0.113.7",
        "version 1.2.3 of 2023-11-22, 12:30:45",
        "In 1990-2000 about 12,000,000 people",
        "@user hello @_@",
        "圆周率3.14159265358979",
        "2001:db8::1",
        "temperature +12345, then +3 and +999",
        "",
    ],
)
def test_what_is_no_persons_data_passes(text: str) -> None:
    assert find_personal(text) is None


def test_resident_id_needs_its_check_character() -> None:
    right = resident_id("11010119900307123")
    wrong = right[:-1] + ("1" if right[-1] != "1" else "2")
    assert find_personal(f"编号{right}") == RESIDENT_ID
    assert find_personal(f"编号{wrong}") is None


@given(st.text())
def test_find_personal_never_fails(text: str) -> None:
    assert find_personal(text) in {None, EMAIL, PHONE, RESIDENT_ID, BANK_CARD, IP_ADDRESS}


@given(st.text(alphabet="0123456789", min_size=1, max_size=25))
def test_exactly_one_digit_completes_a_luhn_number(body: str) -> None:
    assert sum(luhn_valid(body + str(digit)) for digit in range(10)) == 1


# --- leakage


def test_leakage_gate_finds_text_and_context_after_normalisation() -> None:
    keys = EvaluationKeys([]).with_texts(["A Test sentence, kept apart."])
    assert gates.check_leakage([row("Another one."), row("x", context="y")], keys).checked == 2
    for leaked in (row("ａ test  SENTENCE kept apart"), row("x", context="A test sentence: kept apart!")):
        with pytest.raises(DataError) as caught:
            gates.check_leakage([row("fine"), leaked], keys)
        assert caught.value.code == "leakage"
        assert "sentence" not in caught.value.message


def test_digest_file_is_sorted_and_independent_of_order(tmp_path: Path) -> None:
    texts = [f"sentence number {n}" for n in range(50)]
    assert write_digests(texts, tmp_path / "a.bin") == 50
    write_digests(reversed([*texts, texts[0]]), tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    table = np.frombuffer((tmp_path / "a.bin").read_bytes(), dtype="<u8")
    assert table[0] == len(table) - 1
    assert (np.diff(table[1:].astype(object)) > 0).all()
    keys = load_digests(tmp_path / "a.bin")
    assert all(text in keys for text in texts)
    assert "another sentence" not in keys


def test_question_banks_and_known_errors_are_evaluation_texts() -> None:
    keys = load_digests()
    texts = [*bank_texts(), *known_error_texts()]
    assert len(texts) > 3000
    assert [number for number, text in enumerate(texts) if text not in keys] == []


def test_digests_of_another_normaliser_are_refused(tmp_path: Path) -> None:
    stale = np.array([9, *sorted(digest(f"old key {n}") for n in range(9))], dtype="<u8")
    (tmp_path / "stale.bin").write_bytes(stale.tobytes())
    (tmp_path / "cut.bin").write_bytes(stale.tobytes()[:-3])
    whole = DIGESTS_FILE.read_bytes()
    (tmp_path / "short.bin").write_bytes(whole[: len(whole) // 16 * 8])
    (tmp_path / "empty.bin").touch()
    for name, code in (
        ("stale.bin", "digests_stale"),
        ("cut.bin", "digests_missing"),
        ("short.bin", "digests_missing"),
        ("empty.bin", "digests_missing"),
        ("none.bin", "digests_missing"),
    ):
        with pytest.raises(DataError) as caught:
            load_digests(tmp_path / name)
        assert caught.value.code == code


def test_committed_digests_fit_the_normaliser() -> None:
    assert len(load_digests()) > 30_000


# --- unlawful share


def test_unlawful_share_gate_is_a_limit_not_a_ban() -> None:
    assert gates.check_unlawful_share({"a": 0.05, "b": 0.0}, 0.05).checked == 2
    with pytest.raises(DataError, match=r"b: 5\.1%"):
        gates.check_unlawful_share({"a": 0.0, "b": 0.051}, 0.05)
