"""Finds personal data that has a recognisable form: mail, phone, resident id, bank card, IP address.

Names and street addresses have no form that a pattern could find. Ranges reserved for examples are allowed, so that
written material can show what exposure looks like without exposing anyone.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

EMAIL = "an e-mail address"
PHONE = "a phone number"
RESIDENT_ID = "a resident id"
BANK_CARD = "a bank card number"
IP_ADDRESS = "an IP address"

_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]*@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})")
_EXAMPLE_DOMAIN = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$", re.IGNORECASE)
_PHONES = (
    re.compile(r"(?<![\d.])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)"),  # Chinese mobile
    re.compile(r"(?<!\d)0\d{2,3}-\d{7,8}(?!\d)"),  # Chinese landline
    re.compile(r"(?<!\d)01[016789]-\d{3,4}-\d{4}(?!\d)"),  # Korean mobile
    re.compile(r"(?<!\d)0[35-9]\d(?:-\d{3}-?\d{4}|\d{7})(?!\d)"),  # ten-digit mobiles: th, vi, fr
    re.compile(
        r"(?<!\d)(?:\+?1[-. ]?)?(?:\([2-9]\d\d\) ?|(?!400|800)[2-9]\d\d[-.])[2-9]\d\d[-.]\d{4}(?!\d)"
    ),  # North America
    re.compile(r"(?<![\d+])\+\d(?:[- ()]{0,2}\d){8,14}(?!\d)"),  # international form
)
# Numbers that regulators set aside for fiction, and an all-zero filler; hotlines (400, 800) belong to no person.
_FICTIONAL_PHONE = re.compile(r"55501\d\d$|^(?:44|0)?(?:7700900\d{3}|2079460\d{3}|1632960\d{3})$|^(?:86)?1\d{2}0{8}$")
_RESIDENT_ID = re.compile(
    r"(?<!\d)[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\dXx])"
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CARD = re.compile(r"(?<![\d.])[3-6]\d{3}(?:[ -]?\d{4}){2}(?:[ -]?\d{1,7})(?![\d.])")
_CARD_DIGITS = range(14, 20)
_TEST_CARDS = frozenset({"4111111111111111", "4242424242424242", "5555555555554444", "378282246310005"})
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}(?::?[0-9A-Fa-f]{1,4}){1,4}(?![\w:])")
_HINT = re.compile(r"@|\d{4}|\d\.\d|[0-9A-Fa-f]:[0-9A-Fa-f]")


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _id_valid(number: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == number[-1].upper()


def luhn_valid(digits: str) -> bool:
    """Whether a digit string ends in its Luhn check digit."""
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _card(number: str) -> bool:
    return len(number) in _CARD_DIGITS and number not in _TEST_CARDS and len(set(number)) > 2 and luhn_valid(number)


def _public_ip(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


class PersonalSpan(NamedTuple):
    """Where personal data stands in a text (offsets), and its kind."""

    start: int
    end: int
    kind: str


def personal_spans(text: str) -> Iterator[PersonalSpan]:
    """Yield what was found, kind by kind; spans of two kinds may overlap."""
    if not _HINT.search(text):
        return
    for match in _EMAIL.finditer(text):
        if not _EXAMPLE_DOMAIN.search(match[1]):
            yield PersonalSpan(*match.span(), EMAIL)
    for match in _RESIDENT_ID.finditer(text):
        if _id_valid(match[0]):
            yield PersonalSpan(*match.span(), RESIDENT_ID)
    for match in _CARD.finditer(text):
        if _card(_digits(match[0])):
            yield PersonalSpan(*match.span(), BANK_CARD)
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            if not _FICTIONAL_PHONE.search(_digits(match[0])):
                yield PersonalSpan(*match.span(), PHONE)
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            if _public_ip(match[0]):
                yield PersonalSpan(*match.span(), IP_ADDRESS)


def find_personal(text: str) -> str | None:
    """Name the first kind of personal data found, or ``None``; the value itself is never returned."""
    return next((span.kind for span in personal_spans(text)), None)
