"""The labels and the policies: data that ships, and what a bad file is told."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline.errors import ConfigError
from fineline.policy import Action, Policy, get_policy, load_policies, read_policy
from fineline.taxonomy import (
    CROSSWALKS,
    GROUPS,
    OPENAI_CATEGORIES,
    STATE_INTEREST,
    TAXONOMY_FILE,
    load_taxonomy,
    read_taxonomy,
)

IDS = (
    "subversion national_security secession terrorism ethnic_hatred violence sexual false_information public_order "
    "discrimination/ethnicity discrimination/religion discrimination/nationality discrimination/region "
    "discrimination/sex discrimination/age discrimination/occupation discrimination/health discrimination/other "
    "insult privacy self_harm"
).split()
LABELS = load_taxonomy().labels
STRICTNESS = list(Action)


def test_the_ids_are_the_documented_ones_in_output_order():
    assert list(load_taxonomy().ids) == IDS
    assert len(load_taxonomy()) == 21


def test_the_groups_part_the_labels():
    grouped = [label for name in GROUPS for label in load_taxonomy().group(name)]
    assert grouped == IDS
    assert all(label.startswith("discrimination/") for label in load_taxonomy().group("discrimination"))


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.id)
def test_a_label_is_complete_in_both_languages(label):
    assert label.name_en.isascii()
    assert label.definition.endswith(".")
    assert label.clauses
    assert len(label.flag) >= 2
    assert len(label.never_flag) >= 2
    assert any("\u4e00" <= char <= "\u9fff" for char in label.name_zh)
    assert any("\u4e00" <= char <= "\u9fff" for char in label.definition_zh)
    assert len(label.flag_zh) == len(label.flag)
    assert len(label.never_flag_zh) == len(label.never_flag)
    assert all(any("\u4e00" <= char <= "\u9fff" for char in rule) for rule in label.flag_zh + label.never_flag_zh)
    assert label.rule == f"{label.name_en}: {label.definition}"


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.id)
def test_overlaps_and_crosswalks_name_what_exists(label):
    assert set(label.overlaps) <= set(IDS) - {label.id}
    assert len(set(label.overlaps)) == len(label.overlaps)
    assert set(label.crosswalk) == set(CROSSWALKS)
    assert all(entry[0] in "=~" and len(entry) > 1 for entries in label.crosswalk.values() for entry in entries)


def test_openai_names_in_the_crosswalk_are_categories_of_that_api():
    named = {entry[1:] for label in LABELS for entry in label.crosswalk["openai"]}
    assert named <= set(OPENAI_CATEGORIES)


def test_an_unknown_label_is_a_key_error():
    with pytest.raises(KeyError):
        load_taxonomy()["politics"]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (
            'group = "rights"\nname.en = "Personal abuse"',
            'group = "rights"\nseverity = 3\nname.en = "x"',
            "config_unknown_key",
        ),
        ('principle = "', 'motto = "', "taxonomy_key"),
        ('definition_zh = "对特定个人的辱骂和人身攻击。"\n', "", "config_missing_key"),
        ('name.zh = "侮辱他人"\n', "", "config_missing_key"),
        ("{ail = [], lg3 = [], openai = []}", "{ail = [], lg3 = [], open_ai = []}", "config_unknown_key"),
        (
            'group = "rights"\nname.en = "Personal abuse"',
            'group = "rights"\naction = "review"\nname.en = "x"',
            "config_unknown_key",
        ),
        ('id = "privacy"', 'id = "insult"', "taxonomy_duplicate"),
        ('overlaps = ["insult", "violence"]', 'overlaps = ["insult", "rudeness"]', "taxonomy_overlap"),
        ('group = "rights"', 'group = "manners"', "taxonomy_group"),
        ('version = "', "version = ", "config_syntax"),
    ],
)
def test_a_taxonomy_that_breaks_a_rule_is_refused(tmp_path: Path, old, new, code):
    whole = TAXONOMY_FILE.read_text(encoding="utf-8")
    assert old in whole, "the sample to change is gone from taxonomy.toml"
    file = tmp_path / "mine.toml"
    file.write_text(whole.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml") as caught:
        read_taxonomy(file)
    assert caught.value.code == code


def test_the_three_policies_ship():
    assert set(load_policies()) == {"cn_measures", "international", "minors"}
    assert all(name == policy.name for name, policy in load_policies().items())


@pytest.mark.parametrize("policy", load_policies().values(), ids=lambda policy: policy.name)
@pytest.mark.parametrize("label", sorted(STATE_INTEREST))
def test_a_state_interest_label_alone_goes_to_a_person(policy, label):
    assert policy.action((label,)) is Action.REVIEW
    assert policy.action(tuple(STATE_INTEREST)) is Action.REVIEW


@pytest.mark.parametrize("policy", load_policies().values(), ids=lambda policy: policy.name)
def test_nothing_flagged_is_allowed_and_a_threat_is_blocked(policy):
    assert policy.action(()) is Action.ALLOW
    assert policy.action(("violence",)) is Action.BLOCK


@pytest.mark.parametrize(
    ("flagged", "action"),
    [
        (("insult",), Action.REVIEW),
        (("insult", "secession"), Action.REVIEW),
        (("insult", "violence"), Action.BLOCK),
        (("violence", "insult", "subversion"), Action.BLOCK),
    ],
)
def test_the_strictest_action_wins(flagged, action):
    assert get_policy("international").action(flagged) is action


@given(
    st.fixed_dictionaries({label: st.floats(0, 1) for label in IDS}),
    st.fixed_dictionaries({label: st.floats(0, 1) for label in IDS}),
    st.fixed_dictionaries({label: st.floats(0, 1) for label in IDS}),
    st.sampled_from(sorted(load_policies())),
)
def test_higher_scores_never_make_the_action_milder(scores, raised, thresholds, name):
    policy = get_policy(name)
    higher = {label: max(scores[label], raised[label]) for label in IDS}

    def action(given_scores):
        return policy.action(tuple(x for x in IDS if given_scores[x] >= thresholds[x]))

    assert STRICTNESS.index(action(higher)) >= STRICTNESS.index(action(scores))


GOOD = """
name = "mine"
title = "Mine"
title_zh = "自用"
description = "For a test."
description_zh = "用于测试。"
beta = 1.0
max_lawful_flagged = 0.01
default_action = "block"
[actions]
subversion = "review"
national_security = "review"
secession = "review"
"""


def test_a_policy_of_ones_own_is_read(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD + 'insult = "allow"\n', encoding="utf-8")
    policy = read_policy(file)
    assert policy.action(("insult",)) is Action.ALLOW
    assert policy.action(("violence",)) is Action.BLOCK


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD + 'rudeness = "block"\n', "policy_label"),
        (GOOD + 'violence = "delete"\n', "policy_action"),
        (GOOD.replace('default_action = "block"', 'default_action = "forbid"'), "policy_action"),
        (GOOD.replace('secession = "review"\n', ""), "policy_state_interest"),
        (GOOD.replace('subversion = "review"', 'subversion = "block"'), "policy_state_interest"),
        (GOOD.replace('secession = "review"', 'secession = "allow"'), "policy_state_interest"),
        (GOOD.replace("beta", "betta"), "config_unknown_key"),
        (GOOD.replace('title = "Mine"\n', ""), "config_missing_key"),
        (GOOD.replace("beta = 1.0", 'beta = "1.0"'), "config_type"),
        (GOOD.replace("beta = 1.0", "beta = true"), "config_type"),
        (GOOD.replace("[actions]", "[actions"), "config_syntax"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused(tmp_path: Path, text, code):
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml") as caught:
        read_policy(file)
    assert caught.value.code == code


def test_a_policy_may_not_block_state_interest_labels_by_its_default():
    for policy in load_policies().values():
        silent = dataclasses.replace(policy, actions={})
        assert isinstance(silent, Policy)
        assert silent.action(tuple(STATE_INTEREST)) is Action.BLOCK  # so read_policy has to refuse it, as tested above


def test_a_missing_file_and_an_unknown_name_have_codes(tmp_path: Path):
    with pytest.raises(ConfigError) as missing:
        read_policy(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cn_measures, international, minors") as unknown:
        get_policy("strict")
    assert (missing.value.code, unknown.value.code) == ("config_missing", "policy_unknown")
