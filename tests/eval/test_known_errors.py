"""Known errors: a fixed one that comes back and a current one that is gone are told, by line and without the text."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from fineline import Classifier
from fineline.errors import ConfigError
from fineline_eval.banks import load_banks
from fineline_eval.known_errors import CURRENT, FIXED, KnownError, check_known_errors, read_known_errors
from fineline_training.corpus.loader import CORPUS_DIR

DATA = Path(__file__).parents[1] / "data"
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
WRONG = {"text": "calm words", "lang": "en", "labels": ["insult"], "note": "missed"}
RIGHT = {"text": "rude insult", "lang": "en", "labels": ["insult"], "note": "was missed"}
ALARM = {"text": "an insult, he said", "lang": "en", "labels": [], "note": "flagged though reported"}


class Reader:
    """Flags texts that hold the word insult, and what answers the word rude."""

    def classify(self, texts, contexts):
        return [
            SimpleNamespace(flagged=("insult",) if "insult" in text or context == "rude" else ())
            for text, context in zip(texts, contexts, strict=True)
        ]


def write(folder, name, *rows):
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def check(folder, current=(), fixed=()):
    write(folder, CURRENT, *current)
    write(folder, FIXED, *fixed)
    return check_known_errors(folder, Reader())


def test_rows_in_the_right_file_need_nothing(tmp_path):
    assert check(tmp_path, [WRONG, ALARM], [RIGHT]) == []
    assert check(tmp_path) == []


def test_a_current_error_that_is_right_now_must_move(tmp_path):
    (said,) = check(tmp_path, [WRONG, RIGHT])
    assert said == f"{CURRENT} line 2: the text is judged right now; move the row to {FIXED}."


def test_a_fixed_error_that_is_wrong_again_is_told_with_its_labels(tmp_path):
    missed, alarm = check(tmp_path, [], [RIGHT, WRONG, ALARM])
    assert f"{FIXED} line 2" in missed and "expected insult, flagged none" in missed
    assert f"{FIXED} line 3" in alarm and "expected none, flagged insult" in alarm
    assert WRONG["text"] not in missed and ALARM["text"] not in alarm


def test_another_label_than_expected_is_an_error(tmp_path):
    other = RIGHT | {"labels": ["violence"]}
    assert check(tmp_path, [other]) == []
    (said,) = check(tmp_path, [], [other])
    assert "expected violence, flagged insult" in said


def test_the_context_is_read(tmp_path):
    assert check(tmp_path, [], [WRONG | {"context": "rude"}]) == []


def test_a_text_may_hold_any_line_separator_and_blank_lines_are_skipped(tmp_path):
    row = WRONG | {"text": "one\u2028two\u0085three\nfour"}
    write(tmp_path, CURRENT, row)
    file = tmp_path / CURRENT
    file.write_text(f"\n{file.read_text(encoding='utf-8')}\n", encoding="utf-8")
    ((line, error),) = read_known_errors(file)
    assert line == 2
    assert error == KnownError(text=row["text"], lang="en", labels=("insult",), note="missed")


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("{", "known_errors_syntax", "line 2"),
        ("[]", "config_type", "line 2"),
        (json.dumps(WRONG | {"labels": ["rudeness"]}), "known_errors_label", "line 2: 'rudeness'"),
        (json.dumps(WRONG | {"label": "insult"}), "config_unknown_key", "line 2: unknown key 'label'"),
        (json.dumps({k: v for k, v in WRONG.items() if k != "note"}), "config_missing_key", "'note'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, code, said):
    file = tmp_path / CURRENT
    file.write_text(f"{json.dumps(RIGHT)}\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_known_errors(file)
    assert caught.value.code == code
    assert said in caught.value.message and CURRENT in caught.value.message
    assert WRONG["text"] not in caught.value.message


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError) as caught:
        check_known_errors(tmp_path, Reader())
    assert caught.value.code == "known_errors_missing"


# --- the files of this repository


def test_neither_known_errors_nor_questions_of_the_banks_are_training_texts():
    judged = {error.text for name in (CURRENT, FIXED) for _, error in read_known_errors(DATA / name)}
    judged |= {row.text for row in load_banks()}
    for file in sorted(CORPUS_DIR.rglob("*.yaml")):
        trained = {text.replace('\\"', '"') for text in QUOTED.findall(file.read_text(encoding="utf-8"))}
        assert trained, f"{file.name}: no text found"
        assert not judged & trained, f"{file.name} holds a text that is kept for evaluation"


def test_every_known_error_stands_in_the_right_file():
    said = check_known_errors(DATA, Classifier.load(threads=1))
    assert not said, "\n".join(said)
