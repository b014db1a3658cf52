"""Training: reproducible, resumable to the bit after SIGKILL, and it learns; the mixture it draws from."""

import itertools
import json
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from fineline.encoding import Encoder, WindowSpec
from fineline_training.fit import CHECKPOINT, Fit, Position
from fineline_training.mixture import AUTHORED, Mixture
from fineline_training.model import SafetyModel
from fineline_training.optimise import done_of_cycle, load_trainable_state, rate_factor, trainable_state
from fineline_training.predict import predict
from fineline_training.recipe import DataSpec, FitSpec, SourceSpec
from fineline_training.records import Record, write_rows

IDS = ("violence", "insult", "privacy")
WINDOW = WindowSpec(size=64, overlap=12, context=16)
SPEC = FitSpec(
    epochs=2, batch_tokens=160, window=64, precision="fp32", encoder_rate=1e-3, head_rate=2e-2, checkpoint_minutes=999
)


@pytest.fixture(autouse=True)
def _floats_as_others_expect_them():
    """A fit flushes denormals to zero for the whole process; Hypothesis refuses to work like that."""
    yield
    torch.set_flush_denormal(False)


def toy_rows(count: int = 48, seed: int = 5) -> list[Record]:
    """Rows whose label is plain to see: who is told to do what."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        threat = i % 2
        head = "I will find you and break" if threat else "the nurse asked about"
        tail = " ".join(
            rng.choices(["the arm", "his report", "a letter", "the house", "their talk"], k=rng.randint(1, 5))
        )
        labels = {"violence": threat, "insult": 0} if i % 5 else {"insult": 0}
        meta = {"any_of": "violence,privacy"} if not i % 5 and threat else {}
        context = "What happened?" if i % 7 == 0 else None
        rows.append(Record(text=f"{head} {tail}", context=context, lang="en", labels=labels, source="toy", meta=meta))
    return rows


def fit_of(backbone, folder: Path, *, seed: int = 3, spec: FitSpec = SPEC, rows=None, dev=(), on_step=None) -> Fit:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = SafetyModel(backbone.model, len(IDS), dropout=0.1)
    rows = rows if rows is not None else toy_rows()
    return Fit(
        model=model,
        encoder=Encoder(Tokenizer.from_str(backbone.tokenizer.to_str()), WINDOW),
        label_ids=IDS,
        mixture=Mixture(rows, DataSpec(sources={"toy": SourceSpec(), AUTHORED: SourceSpec()}), seed),
        spec=spec,
        seed=seed,
        folder=folder,
        dev=list(dev),
        on_step=on_step,
    )


def weights(model: SafetyModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_backbone, tmp_path):
    runs = [weights(fit_of(make_backbone(7), tmp_path / str(i), seed=seed).run()) for i, seed in enumerate((3, 3, 4))]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_frozen_words_stay_and_everything_else_moves(make_backbone, tmp_path):
    before = weights(SafetyModel(make_backbone(7).model, len(IDS)))
    fit = fit_of(make_backbone(7), tmp_path)
    after = weights(fit.run())
    words = "encoder.embeddings.word_embeddings.weight"
    assert torch.equal(before[words], after[words])
    assert words not in trainable_state(fit.model)
    still = [name for name in before if torch.equal(before[name], after[name]) and name != words]
    assert not [name for name in still if "position_ids" not in name and "token_type_ids" not in name]


def test_words_are_trained_when_the_recipe_says_so(make_backbone, tmp_path):
    before = make_backbone(7).model.get_input_embeddings().weight.clone()
    spec = FitSpec(epochs=1, batch_tokens=160, window=64, precision="fp32", freeze_words=False)
    model = fit_of(make_backbone(7), tmp_path, spec=spec).run()
    assert not torch.equal(before, model.encoder.get_input_embeddings().weight)


def test_trained_parameters_can_be_put_back(make_backbone, tmp_path):
    model = fit_of(make_backbone(7), tmp_path).run()
    torch.save(trainable_state(model), tmp_path / "model.pt")
    fresh = SafetyModel(make_backbone(7).model, len(IDS))
    load_trainable_state(fresh, torch.load(tmp_path / "model.pt", weights_only=True))
    assert same(weights(model), weights(fresh))


def test_a_learnable_set_is_learned(make_backbone, tmp_path):
    spec = FitSpec(epochs=12, batch_tokens=320, window=64, precision="fp32", encoder_rate=1e-3, head_rate=2e-2)
    dev = [row for row in toy_rows(40, seed=77) if "violence" in row.labels]
    fit = fit_of(make_backbone(7), tmp_path, spec=spec, rows=toy_rows(160), dev=dev)
    model = fit.run()
    assert not model.training
    log = [json.loads(line) for line in (tmp_path / "fit.jsonl").read_text().splitlines()]
    train = [row["loss"] for row in log if "loss" in row]
    held = [row["dev_loss"] for row in log if "dev_loss" in row]
    assert len(held) == 12
    assert train[-1] < 0.5 * train[0]
    assert held[-1] < 0.5 * held[0]
    from fineline_training.examples import encode_records

    logits = predict(model, encode_records(dev, fit.encoder, IDS), pad=fit.encoder.pad)
    right = [(row.labels["violence"] == 1) == (value > 0) for row, value in zip(dev, logits[:, 0], strict=True)]
    assert sum(right) / len(right) > 0.9


def test_without_a_checkpoint_there_is_nothing_to_resume(make_backbone, tmp_path):
    assert fit_of(make_backbone(7), tmp_path).resume() is False


def test_a_save_that_dies_leaves_the_last_checkpoint(make_backbone, tmp_path, monkeypatch):
    fit = fit_of(make_backbone(7), tmp_path)
    fit.position.step = 2
    fit.save()
    old = (tmp_path / CHECKPOINT).read_bytes()

    def dying(state: object, file: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dying)
    fit.position.step = 9
    with pytest.raises(KeyboardInterrupt):
        fit.save()
    monkeypatch.undo()
    assert (tmp_path / CHECKPOINT).read_bytes() == old
    again = fit_of(make_backbone(7), tmp_path)
    assert again.resume()
    assert (again.position.epoch, again.position.step) == (0, 2)


CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel
    from fineline.encoding import Encoder, WindowSpec
    from fineline_training.fit import Fit
    from fineline_training.mixture import Mixture
    from fineline_training.model import SafetyModel
    from fineline_training.recipe import DataSpec, FitSpec, SourceSpec
    from fineline_training.records import read_rows

    torch.set_num_threads(1)
    shared, folder, save_at, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    tokenizer = Tokenizer.from_file(str(shared / "tokenizer.json"))
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=64, max_position_embeddings=512)
    torch.manual_seed(1)
    model = SafetyModel(BertModel(config, add_pooling_layer=False), 3, dropout=0.3)

    def on_step(position):
        at = f"{position.epoch}/{position.step}"
        if at == save_at:
            fit.save()
        if at == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    fit = Fit(model=model, encoder=Encoder(tokenizer, WindowSpec(size=64, overlap=12, context=16)),
              label_ids=("violence", "insult", "privacy"),
              mixture=Mixture(read_rows(shared / "rows.jsonl").records, DataSpec(sources={"toy": SourceSpec()}), 3),
              spec=FitSpec(epochs=2, batch_tokens=160, window=64, precision="fp32", dropout=0.3),
              seed=3, folder=folder, dev=[], on_step=on_step)
    print("resumed" if fit.resume() else "fresh", fit.position, flush=True)
    torch.save(fit.run().state_dict(), folder / "final.pt")
    """
)


@pytest.fixture(scope="module")
def child(tmp_path_factory, tiny_tokenizer, source_env):
    shared = tmp_path_factory.mktemp("shared")
    tiny_tokenizer.save(str(shared / "tokenizer.json"))
    write_rows(shared / "rows.jsonl", toy_rows())

    def call(folder: Path, save_at: str = "-", kill_at: str = "-") -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        words = [sys.executable, "-c", CHILD, str(shared), str(folder), save_at, kill_at]
        return subprocess.run(words, env=source_env, capture_output=True, text=True, timeout=200, check=False)

    return call


@pytest.fixture(scope="module")
def uninterrupted(child, tmp_path_factory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    done = child(folder)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in (folder / "fit.jsonl").read_text().splitlines()]
    assert steps[0]["steps"] >= 5, "the kills below need a few steps in every epoch"
    return torch.load(folder / "final.pt", weights_only=True)


@pytest.mark.parametrize(("save_at", "kill_at"), [("0/2", "0/4"), ("1/3", "1/4"), ("-", "1/2")], ids=str)
def test_a_killed_run_resumes_to_the_same_weights(child, uninterrupted, tmp_path, save_at, kill_at):
    killed = child(tmp_path / "run", save_at, kill_at)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "final.pt").exists()
    resumed = child(tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    expected = "epoch=1, step=0" if save_at == "-" else "epoch={}, step={}".format(*save_at.split("/"))
    assert resumed.stdout.startswith("resumed")
    assert expected in resumed.stdout
    assert same(torch.load(tmp_path / "run" / "final.pt", weights_only=True), uninterrupted)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {CHECKPOINT, "fit.jsonl", "final.pt"}


def test_the_rate_warms_up_then_falls_to_a_tenth():
    shares = [i / 200 for i in range(201)]
    factors = [rate_factor(share, 0.1) for share in shares]
    peak = factors.index(max(factors))
    assert shares[peak] == pytest.approx(0.1)
    assert factors[peak] == pytest.approx(1)
    assert factors[0] == 0
    assert factors[-1] == pytest.approx(0.1)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert rate_factor(0, 0) == 1


def test_every_cycle_of_the_rate_goes_from_nothing_to_its_end():
    shares = [done_of_cycle(position / 10, 5, (3,)) for position in range(51)]
    assert shares[:31:10] == pytest.approx([0, 1 / 3, 2 / 3, 0])
    assert shares[30:] == pytest.approx([share / 20 for share in range(20)] + [1])
    assert [done_of_cycle(position, 3, ()) for position in (0, 1.5, 3)] == [0, 0.5, 1]


def test_a_run_with_a_restart_ends_in_the_mean_of_both_ends_also_after_a_kill(make_backbone, tmp_path):
    spec = replace(SPEC, epochs=2, restarts=(1,))
    ends = []

    fit = fit_of(make_backbone(7), tmp_path / "whole", spec=spec)
    fit.on_step = lambda at: ends.append((at.epoch, {k: v.clone() for k, v in trainable_state(fit.model).items()}))
    whole = trainable_state(fit.run())
    last = [next(state for at, state in reversed(ends) if at == epoch) for epoch in (0, 1)]
    for name, value in whole.items():
        torch.testing.assert_close(value, (last[0][name] + last[1][name]) / 2, rtol=0, atol=1e-6)
    assert any(not torch.equal(last[0][name], last[1][name]) for name in whole)

    def stop(at: Position) -> None:
        if at.epoch == 1 and at.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_of(make_backbone(7), tmp_path / "killed", spec=spec, on_step=stop).run()
    again = fit_of(make_backbone(7), tmp_path / "killed", spec=spec)
    assert again.resume()
    assert same(trainable_state(again.run()), whole)


# --- mixture


def row(number: int, source: str, lang: str = "en", context: str | None = None, **labels: int) -> Record:
    return Record(text=f"{source} text {number}.", context=context, lang=lang, labels=labels, source=source)


def mixture(rows: list[Record], seed: int = 1, compose: float = 0.0, **sources: SourceSpec) -> Mixture:
    return Mixture(rows, DataSpec(sources=sources, compose=compose, evade=0.0), seed)


def test_an_epoch_depends_on_seed_and_number_alone():
    rows = [row(i, source) for source in ("a", "b") for i in range(40)]
    made = mixture(rows, a=SourceSpec(weight=0.5), b=SourceSpec(weight=0.5))
    again = mixture(rows, a=SourceSpec(weight=0.5), b=SourceSpec(weight=0.5))
    made.epoch(0)
    assert made.epoch(3) == again.epoch(3)
    assert made.epoch(3) != made.epoch(4)
    assert {r.text for r in made.epoch(3)} != {r.text for r in made.epoch(4)}
    assert mixture(rows, seed=2, a=SourceSpec(weight=0.5), b=SourceSpec(weight=0.5)).epoch(3) != made.epoch(3)


@pytest.mark.parametrize(
    ("weight", "cap", "expected"),
    [(1.0, 0, 40), (0.25, 0, 10), (2.5, 0, 100), (1.0, 7, 7), (3.0, 60, 60), (0.0, 0, 0), (0.01, 0, 0), (1.0, 90, 40)],
)
def test_a_source_gives_its_share(weight, cap, expected):
    rows = [row(i, "a") for i in range(40)] + [row(i, "b") for i in range(9)]
    drawn = mixture(rows, a=SourceSpec(weight=weight, cap=cap), b=SourceSpec()).epoch(0)
    counts = Counter(r.text for r in drawn if r.source == "a")
    assert sum(counts.values()) == expected
    assert sum(r.source == "b" for r in drawn) == 9
    if counts:
        assert max(counts.values()) - (min(counts.values()) if len(counts) == 40 else 0) <= 1


def test_sources_are_mixed():
    rows = [row(i, source) for source in ("a", "b") for i in range(100)]
    order = [r.source for r in mixture(rows, a=SourceSpec(), b=SourceSpec()).epoch(0)]
    assert 30 < sum(one != other for one, other in itertools.pairwise(order)) < 170


@pytest.mark.parametrize(("lang", "joiner"), [("en", " "), ("zh", "")])
def test_authored_rows_are_set_among_lawful_sentences_of_their_language(lang, joiner):
    lawful = [row(i, AUTHORED, lang, insult=0) for i in range(60)]
    flagged = [row(i, AUTHORED, lang, insult=1) for i in range(1000, 1060)]
    other = [row(i, AUTHORED, "fr", insult=0) for i in range(2000, 2060)]
    answered = [row(i, AUTHORED, lang, context="why?", insult=1) for i in range(3000, 3060)]
    drawn = mixture([*lawful, *flagged, *other, *answered], compose=0.5, **{AUTHORED: SourceSpec()}).epoch(0)
    by_label = {
        kind: [r for r in drawn if r.lang == lang and r.context is None and r.labels["insult"] == kind]
        for kind in (0, 1)
    }
    lawful_texts = {r.text for r in lawful}
    composed = 0
    for record in by_label[1]:
        own = [r.text for r in flagged if r.text in record.text]
        assert len(own) == 1, "the flagged text itself must be there, and no other flagged text"
        rest = record.text.replace(own[0], "|").split("|")
        composed += record.text != own[0]
        around = [part.strip() for part in rest if part.strip()]
        assert all(any(text in part for text in lawful_texts) for part in around)
        assert "fr" not in record.text
    assert 15 < composed < 45
    assert all(r.text == f"{AUTHORED} text {n}." for r in drawn if r.context for n in [int(r.text.split()[-1][:-1])])
    sample = next(r for r in by_label[1] if r.text.count("text") > 1)
    assert f".{joiner}{AUTHORED}" in sample.text


def test_languages_with_few_fillers_and_other_sources_are_left_whole():
    rows = [row(i, AUTHORED, "ko", insult=0) for i in range(20)] + [row(i, "a", insult=0) for i in range(60)]
    drawn = mixture(rows, compose=1.0, a=SourceSpec(), **{AUTHORED: SourceSpec()}).epoch(0)
    assert sorted(r.text for r in drawn) == sorted(r.text for r in rows)
