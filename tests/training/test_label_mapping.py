"""Mapping files: names of fields and words for labels, checked before anything is read."""

from pathlib import Path

import pytest

from fineline.errors import ConfigError
from fineline_training.labels.mapping import FieldMap, person, read_map

IDS = ("violence", "insult", "spam")


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "map.toml").write_text(text, encoding="utf-8")
    return tmp_path / "map.toml"


def test_no_file_and_no_options_is_our_own_schema() -> None:
    assert read_map(None, IDS) == FieldMap()


def test_options_outrank_the_file_unless_empty(tmp_path: Path) -> None:
    path = written(
        tmp_path, 'text = "body"\nlabels = "tags"\nknown = ["spam"]\n[names]\n"Buy!" = ["spam"]\nfine = []\n'
    )
    fields = read_map(path, IDS, text="comment", labels="", known=[])
    assert (fields.text, fields.labels, fields.known) == ("comment", "tags", ("spam",))
    assert fields.names == {"Buy!": ("spam",), "fine": ()}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('known = ["nothing"]', "import_map_label"),
        ('[names]\nx = ["nothing"]', "import_map_label"),
        ('txt = "body"', "config_unknown_key"),
        ("text = 1", "config_type"),
        ("text =", "config_syntax"),
    ],
)
def test_bad_mapping_is_refused(tmp_path: Path, content: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_map(written(tmp_path, content), IDS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "name"),
    [("ann", "ann"), (12, "12"), ({"id": 4, "email": "a@b.com"}, "4"), ({"username": "ann"}, "ann"), ("", "")],
)
def test_names_of_annotators(value: object, name: str) -> None:
    assert person(value) == name


@pytest.mark.parametrize("value", ["ann@corp.com", {"email": "ann@corp.com"}, "13912345678"])
def test_annotators_reachable_by_their_name_get_another(value: object) -> None:
    assert person(value).startswith("person-")
    assert person(value) == person(value)
