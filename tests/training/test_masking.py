"""Masks: each kind is replaced by its name, what stands around it stays, and nothing is left to find."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline_training.labels.masking import MASKS, mask
from fineline_training.personal import (
    BANK_CARD,
    EMAIL,
    IP_ADDRESS,
    PHONE,
    RESIDENT_ID,
    find_personal,
    luhn_valid,
    personal_spans,
)

ID = next(number for digit in "0123456789X" if find_personal(number := f"11010119900307123{digit}"))
PIECES = st.sampled_from(
    ["a@b.co", "13912345678", "8.8.4.4", ID, "+1 212 456 7890", "@", ".", " ", "-", "x", "5", "1:2"]
)


def card(body: str) -> str:
    return next(body + str(digit) for digit in range(10) if luhn_valid(body + str(digit)))


@pytest.mark.parametrize(
    ("text", "masked", "kind"),
    [
        ("write to jo.doe@mail-host.net please", "write to [EMAIL] please", EMAIL),
        ("电话13912345678找我", "电话[PHONE]找我", PHONE),
        ("server 8.8.4.4 is down", "server [IP_ADDRESS] is down", IP_ADDRESS),
        (f"卡号 {card('622202120000123456')}。", "卡号 [BANK_CARD]。", BANK_CARD),
    ],
)
def test_a_piece_is_replaced_by_its_kind(text: str, masked: str, kind: str) -> None:
    assert mask(text) == (masked, {kind: 1})


def test_every_piece_is_counted() -> None:
    found = mask("a@mail-host.net, b@mail-host.net; 139-1234-5678")
    assert found.text == "[EMAIL], [EMAIL]; [PHONE]"
    assert found.found == {EMAIL: 2, PHONE: 1}


def test_overlapping_pieces_leave_no_half_number() -> None:
    text = "卡 " + card("4" + "13912345678" + "123")
    assert len(list(personal_spans(text))) >= 1
    assert not any(char.isdigit() for char in mask(text).text)


@pytest.mark.parametrize("text", ["", "call 212-555-0147", "root@localhost at 192.168.1.1, 2023-11-22"])
def test_what_is_no_persons_data_stays(text: str) -> None:
    assert mask(text) == (text, {})


@given(st.lists(PIECES, max_size=12).map("".join))
def test_nothing_is_left_after_masking(text: str) -> None:
    masked = mask(text)
    assert find_personal(masked.text) is None
    assert bool(masked.found) == (find_personal(text) is not None)
    assert mask(masked.text).text == masked.text


def test_every_kind_has_a_mask_that_is_no_personal_data() -> None:
    assert set(MASKS) == {EMAIL, PHONE, RESIDENT_ID, BANK_CARD, IP_ADDRESS}
    assert find_personal(" ".join(MASKS.values())) is None
