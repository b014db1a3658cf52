"""Rows that are not UTF-8: recovered where they cannot be anything but Chinese, refused otherwise."""

import pytest

from fineline.errors import ConfigError
from fineline_training.labels.encodings import Decoder

CHINESE = '{"text": "他说要是你不把钱还给我，我就去你的公司找你，到时候别怪我。"}'


def escaped(text: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in text)


def test_utf8_is_left_alone() -> None:
    decoder = Decoder()
    assert decoder(CHINESE.encode()) == CHINESE
    assert decoder.recovered == 0


def test_chinese_in_gb18030_is_recovered_and_counted() -> None:
    decoder = Decoder()
    assert decoder(CHINESE.encode("gb18030")) == CHINESE
    assert decoder.recovered == 1


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Él le dijo que mañana vendría a buscarlo", "cp1252"),
        ("Он сказал, что придёт завтра", "cp1251"),
        ("그는 내일 올 것이라고 말했다. 우리는 기다리기로 했다.", "euc_kr"),
        ("彼は明日来ると言っていました", "euc_jp"),
        ("彼は明日来ると言っていました", "shift_jis"),
        ("他說要是你不把錢還給我，我就去你的公司找你", "big5"),
        ("เขาบอกว่าจะมาพรุ่งนี้", "cp874"),
        ("好", "gb18030"),
    ],
)
def test_what_may_be_something_else_is_not_guessed(text: str, encoding: str) -> None:
    decoder = Decoder()
    assert escaped(decoder(text.encode(encoding)))
    assert decoder.recovered == 0


def test_row_of_two_encodings_is_not_guessed() -> None:
    assert escaped(Decoder()(CHINESE.encode() + CHINESE.encode("gb18030")))


def test_named_encoding_reads_what_is_not_utf8() -> None:
    decoder = Decoder("latin-1")
    assert decoder("mañana".encode("latin-1")) == decoder("mañana".encode()) == "mañana"
    assert decoder.recovered == 1


def test_unknown_encoding_is_refused() -> None:
    with pytest.raises(ConfigError, match="--encoding"):
        Decoder("klingon")
