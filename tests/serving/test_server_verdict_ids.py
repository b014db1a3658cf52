"""Verdict ids: what they say comes back, nothing in them can be changed, and nothing of a text is in them."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cryptography")
from fineline import Action, Verdict
from fineline.errors import ConfigError, InputError
from fineline.server.feedback_settings import FeedbackSettings, Keeping
from fineline.server.problems import UnavailableError
from fineline.server.sealing import Content, Sealer, read_secrets, write_secret
from fineline.server.verdict_ids import VerdictIds

MARKER = "zebrawhisper"
SECRET, OTHER = b"s" * 32, b"o" * 32
VERDICT = Verdict(
    action=Action.BLOCK,
    flagged=("violence", "discrimination/ethnicity"),
    scores={},
    thresholds={},
    windows=(),
    rules={},
    model="fineline-1@1.2.0",
    policy="cn_measures",
)
TEXTS = st.text(st.characters(codec=None), max_size=60)


@pytest.fixture
def ids():
    return VerdictIds(SECRET, clock=lambda: 1_790_000_000.9)


def test_an_id_says_what_was_judged(ids):
    claim = ids.read(ids.issue(VERDICT, "text", "prompt", bundle="0123456789abcdef" * 4))
    assert (claim.issued, claim.model, claim.bundle) == (1_790_000_000, "fineline-1@1.2.0", "0123456789abcdef")
    assert (claim.policy, claim.action, claim.flagged) == ("cn_measures", "block", VERDICT.flagged)
    assert len(claim.id) == 32


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, context=st.none() | TEXTS, other=TEXTS, other_context=st.none() | TEXTS)
def test_only_the_judged_text_and_context_match(text, context, other, other_context):
    ids = VerdictIds(SECRET)
    claim = ids.read(ids.issue(VERDICT, text, context))
    assert ids.matches(claim, text, context)
    same = (text, context or "") == (other, other_context or "")
    assert ids.matches(claim, other, other_context) is same


def test_text_and_context_do_not_run_into_each_other(ids):
    claim = ids.read(ids.issue(VERDICT, "ab", "c"))
    assert not ids.matches(claim, "a", "bc")
    assert not ids.matches(claim, "abc", None)
    claim = ids.read(ids.issue(VERDICT, "ab", None))
    assert ids.matches(claim, "ab", "")


def test_no_byte_of_an_id_can_be_changed(ids):
    issued = ids.issue(VERDICT, "text")
    data = base64.urlsafe_b64decode(issued + "=" * (-len(issued) % 4))
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(InputError) as caught:
            ids.read(base64.urlsafe_b64encode(altered).decode().rstrip("="))
        assert caught.value.code == "verdict_id_invalid"


@pytest.mark.parametrize(
    "wrong", ["", "x", "modr-1", MARKER, "A" * 100_000, "é", "\ud800", "AQ==", "AQ" * 40, "a b", "=" * 8, "\n"]
)
def test_what_is_no_id_is_refused_and_not_repeated(ids, wrong):
    with pytest.raises(InputError) as caught:
        ids.read(wrong)
    assert MARKER not in caught.value.message


def test_an_id_holds_nothing_to_find_a_text_by(ids):
    one, two = (ids.issue(VERDICT, MARKER, MARKER) for _ in range(2))
    assert one != two
    claims = [ids.read(issued) for issued in (one, two)]
    assert claims[0].id != claims[1].id
    assert claims[0].digest != claims[1].digest
    raw = base64.urlsafe_b64decode(one + "=" * (-len(one) % 4))
    assert MARKER.encode() not in raw


def test_ids_are_short_and_fit_a_url(ids):
    issued = ids.issue(VERDICT, "text" * 10_000, bundle="f" * 64)
    assert len(issued) < 300
    assert set(issued) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_another_secret_reads_nothing_unless_it_was_in_use_before(ids):
    issued = ids.issue(VERDICT, "text")
    with pytest.raises(InputError):
        VerdictIds(OTHER).read(issued)
    rotated = VerdictIds(OTHER, SECRET)
    claim = rotated.read(issued)
    assert rotated.matches(claim, "text")
    assert not rotated.matches(claim, "other")
    with pytest.raises(InputError):
        ids.read(rotated.issue(VERDICT, "text"))


def test_servers_with_one_secret_file_read_each_others_ids(tmp_path):
    file = tmp_path / "secret"
    write_secret(file)
    chosen = FeedbackSettings(secret_file=str(file))
    issued = VerdictIds.open(chosen).issue(VERDICT, "text")
    assert VerdictIds.open(chosen).read(issued).action == "block"
    with pytest.raises(InputError):
        VerdictIds.open(FeedbackSettings()).read(issued)


def test_ids_of_real_verdicts_carry_their_facts(classifier):
    verdict = classifier.classify(["tell anyone"])[0]
    ids = VerdictIds(SECRET)
    claim = ids.read(ids.issue(verdict, "tell anyone", bundle=classifier.bundle.meta.digest))
    assert claim.flagged == verdict.flagged
    assert (claim.action, claim.policy, claim.model) == (verdict.action, verdict.policy, verdict.model)
    assert classifier.bundle.meta.digest.startswith(claim.bundle)


# --- secrets and sealing


@pytest.mark.parametrize("content", ["", "\n", "c2hvcnQ=", MARKER, "!" * 43 + "=", "é", "A" * 44])
def test_a_file_that_is_no_secret_is_refused_and_not_repeated(tmp_path, content):
    file = tmp_path / "secret"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_secrets(file)
    assert caught.value.code == "secret_file"
    assert MARKER not in caught.value.message
    with pytest.raises(ConfigError):
        read_secrets(tmp_path / "none")


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "key"
    write_secret(file)
    return file


CONTENT = Content(text=f"{MARKER} 文本", context="prompt", note=MARKER)


def test_encrypted_contents_come_back_and_show_nothing(key):
    sealer = Sealer(Keeping.ENCRYPTED, key)
    form, stored = sealer.seal(CONTENT)
    assert form == "encrypted"
    assert MARKER.encode() not in stored
    assert sealer.unseal(form, stored) == CONTENT


def test_a_new_key_above_the_old_one_still_reads_what_was_stored(key, tmp_path):
    form, stored = Sealer(Keeping.ENCRYPTED, key).seal(CONTENT)
    fresh = tmp_path / "fresh"
    write_secret(fresh)
    with pytest.raises(UnavailableError) as caught:
        Sealer(Keeping.ENCRYPTED, fresh).unseal(form, stored)
    assert caught.value.code == "feedback_key"
    fresh.write_text(fresh.read_text() + key.read_text())
    rotated = Sealer(Keeping.ENCRYPTED, fresh)
    assert rotated.unseal(form, stored) == CONTENT
    with pytest.raises(UnavailableError):
        Sealer(Keeping.ENCRYPTED, key).unseal(*rotated.seal(CONTENT))


def test_what_was_stored_is_read_after_the_manner_of_keeping_changes(key):
    plain = Sealer(Keeping.PLAIN).seal(CONTENT)
    encrypted = Sealer(Keeping.ENCRYPTED, key).seal(CONTENT)
    assert plain[0] == "plain"
    assert json.loads(plain[1])["note"] == MARKER
    for keeping in Keeping:
        assert [Sealer(keeping, key).unseal(*stored) for stored in (plain, encrypted)] == [CONTENT, CONTENT]
    with pytest.raises(UnavailableError):
        Sealer(Keeping.PLAIN).unseal(*encrypted)


def test_nothing_is_kept_of_nothing_or_where_texts_never_are(key):
    assert Sealer(Keeping.NEVER, key).seal(CONTENT) is None
    assert Sealer(Keeping.PLAIN).seal(Content()) is None
    assert Sealer(Keeping.PLAIN).unseal(None, None) == Content()


@pytest.mark.parametrize("wrong", [{"texts": "yes"}, {"texts": "encrypted"}, {"appeal_days": 0}, {"retention_days": 0}])
def test_settings_that_cannot_hold_are_refused(wrong):
    with pytest.raises(ConfigError) as caught:
        FeedbackSettings(**wrong)
    assert caught.value.code == "settings_feedback"
