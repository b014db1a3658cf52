"""Text of a row whose file mixes encodings: UTF-8, and GB18030 where the row cannot be anything else.

GB18030 decodes nearly any bytes to some rare characters, and Korean in EUC-KR even to common ones, so decoding proves
nothing. Chinese shows by what is in it: nearly all characters are of the first level of GB 2312 (3,755 in common use),
and every fifth is one of the 150 that any Chinese text is full of. Of the corpus's Chinese texts, each alone, 87 % are
recovered in this way (those in traditional characters are not), and none of 32,000 texts in 12 other languages, each in
the encodings of its own. A row that stays unclear is refused; whoever knows the encoding of a file names it.
"""

import codecs
import unicodedata

from fineline.errors import ConfigError
from fineline_training.rowfiles import plain_utf8

GB18030 = "gb18030"
# In the order of how often they are used.
_COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进"
    "好小部其些主样理心她本前开但因只从想"
)
_COMMON_SHARE, _RARE_SHARE = 0.2, 0.1
_PUNCTUATION = frozenset("“”‘’…—·")


def _first_level(char: str) -> bool:
    try:
        return 0xB0 <= char.encode("gb2312")[0] <= 0xD7
    except UnicodeEncodeError:
        return False


def _chinese(text: str) -> bool:
    """Whether the text is Chinese beyond doubt, as far as it is not ASCII."""
    marks = [char for char in text if not char.isascii()]
    han = [char for char in marks if unicodedata.name(char, "").startswith("CJK UNIFIED")]
    forms = [
        char for char in marks if char in _PUNCTUATION or "\u3000" <= char <= "\u3011" or "\uff01" <= char <= "\uff5e"
    ]
    if not han or len(han) + len(forms) < len(marks):
        return False
    common = sum(char in _COMMON for char in han)
    rare = sum(not _first_level(char) for char in han)
    return common >= max(2, _COMMON_SHARE * len(han)) and rare <= _RARE_SHARE * len(han)


class Decoder:
    """Decodes rows and counts those that were not UTF-8.

    Args:
        other: Encoding of the rows that are not UTF-8; found out row by row if empty.

    Raises:
        ConfigError: There is no encoding of that name.
    """

    def __init__(self, other: str = "") -> None:
        try:
            self._other = codecs.lookup(other).name if other else ""
        except LookupError:
            raise ConfigError("import_encoding", f"--encoding: '{other}' is no encoding that Python knows.") from None
        self.recovered = 0

    def __call__(self, line: bytes) -> str:
        """The text of a line; bytes that stay unclear become surrogates, by which the row is refused."""
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            pass
        try:
            text = line.decode(self._other or GB18030)
        except UnicodeDecodeError:
            return plain_utf8(line)
        if not self._other and not _chinese(text):
            return plain_utf8(line)
        self.recovered += 1
        return text
