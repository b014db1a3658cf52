"""A team's held-back rows: the new label beside what was there before, and the card's section of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fineline.errors import DataError
from fineline_eval.card.team import team_section
from fineline_eval.metrics import resampled
from fineline_eval.report import read_report, write_report
from fineline_eval.team import evaluate_team, read_team_rows
from fineline_training.records import write_rows


class Rule:
    """Stands for a classifier: a rule gives the probabilities of a text."""

    policy = "cn_measures"

    def __init__(self, name, labels, rule):
        self.labels, self._rule = labels, rule
        thresholds = {self.policy: dict.fromkeys(labels, 0.5)}
        self.bundle = SimpleNamespace(meta=SimpleNamespace(thresholds=thresholds), model_id=name)

    def logits(self, texts, contexts):
        return np.array([[self._rule(text).get(label, 0.0) for label in self.labels] for text in texts])

    def probabilities(self, logits):
        return logits


@pytest.fixture
def rows(row):
    """Sixty rows that know the new label, forty of which know insults, too; one row in ten is hard."""
    made = []
    for i in range(60):
        yes = i % 2
        labels = {"cure": yes} | ({"insult": int(i % 4 == 0)} if i < 40 else {})
        made.append(row(f"{i} {'hard' if i % 10 == 0 else 'plain'} {'yes' if yes else 'no'} {i % 4}", labels=labels))
    return made


def judge(text: str) -> dict[str, float]:
    number, kind, answer, quarter = text.split()
    cure = {"yes": 0.9, "no": 0.1}[answer] if kind == "plain" else 0.95
    return {"cure": cure - int(number) / 1e4, "insult": 0.8 if quarter == "0" else 0.3}


@pytest.fixture
def found(rows, row):
    now = Rule("new@1", ("insult", "cure"), judge)
    then = Rule("old@1", ("insult",), lambda text: {"insult": 0.6 if text.split()[3] in "01" else 0.1})
    lawful = [row(f"lawful {i}", meta={"frame": f"f{i // 2}"}) for i in range(40)]
    scores = np.zeros((40, 2))
    scores[:4, 1] = 0.9
    return evaluate_team(now, then, rows, lawful, scores)


def test_a_new_label_has_nothing_before_and_an_old_one_has(found):
    insult, cure = found.labels
    assert (cure.label, cure.n, cure.positives) == ("cure", 60, 30)
    assert cure.before is None and cure.gain is None
    # Six rows without the label come first, then all thirty with it.
    assert cure.after.average_precision.value == pytest.approx(np.mean([k / (k + 6) for k in range(1, 31)]), abs=1e-4)
    assert cure.after.average_precision.low < cure.after.average_precision.value < cure.after.average_precision.high
    assert cure.after.lawful_flagged.value == pytest.approx(6 / 30)
    assert (insult.n, insult.positives) == (40, 10)
    assert insult.after.average_precision.value == 1.0
    assert insult.before.average_precision.value == pytest.approx(0.5)
    assert insult.before.precision.value == pytest.approx(0.5)
    assert insult.gain.value == pytest.approx(0.5)
    assert 0 < insult.gain.low < 0.5 < insult.gain.high < 1


def test_what_an_added_label_flags_elsewhere_is_told(found):
    assert found.before == "old@1"
    assert set(found.elsewhere) == {"cure"}
    assert found.elsewhere["cure"].value == 0.1
    assert found.elsewhere["cure"].n == 40


def test_labels_of_one_verdict_are_left_out_and_nothing_need_be_before(rows, row):
    now = Rule("new@1", ("insult", "cure"), judge)
    alone = evaluate_team(now, None, [r for r in rows if not r.labels.get("insult")], [row()], np.zeros((1, 2)))
    assert [label.label for label in alone.labels] == ["cure"]
    assert alone.elsewhere == {}
    assert alone.before == ""


def test_the_interval_is_over_clusters():
    def mean(weights):
        return float((weights * values).sum() / weights.sum())

    values = np.repeat([0.0, 1.0] * 10, 5)
    alone = resampled(mean, [""] * 100)
    drawn = resampled(mean, [f"c{i // 5}" for i in range(100)])
    assert alone.value == drawn.value == 0.5
    assert drawn.high - drawn.low > 1.8 * (alone.high - alone.low)


def test_a_report_with_a_teams_rows_is_read_as_it_was_written_and_shown(report, found, tmp_path):
    manifest = dict(report.manifest) | {
        "start": {"model": "old@1"},
        "team": {
            "rows": 600,
            "languages": {"en": 600},
            "imports": [{"import": "i-1", "licence": "own work", "new": 600}],
        },
    }
    write_report(replace(report, team=found, manifest=manifest), tmp_path / "report.json")
    again = read_report(tmp_path / "report.json")
    assert repr(again.team) == repr(found)  # ends that are not a number are not equal to themselves
    text = "\n".join(team_section(again))
    assert "went on from `old@1` with 600 rows" in text
    assert "60 of them were held back" in text
    assert "`cure` 10.0 %" in text
    assert "| i-1 | own work | - | 600 |" in text
    [line] = [line for line in text.splitlines() if line.startswith("| `insult`")]
    assert line.split(" | ")[3].startswith("50.0 (")
    assert line.split(" | ")[5].startswith("50.0 (")
    assert team_section(report) == []


def test_rows_that_cannot_be_read_are_refused(row, tmp_path):
    write_rows(tmp_path / "held.jsonl", [row(labels={"cure": 1})])
    assert len(read_team_rows(tmp_path / "held.jsonl", ["cure"])) == 1
    with pytest.raises(DataError, match="line 1"):
        read_team_rows(tmp_path / "held.jsonl", ["insult"])
    write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match="no row"):
        read_team_rows(tmp_path / "empty.jsonl", ["cure"])
