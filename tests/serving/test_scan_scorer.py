"""Scores of a shard are those of the classifier, in the order of its documents."""

import numpy as np
import pytest

from fineline.scan import scorer as module
from fineline.scan.documents import Document
from fineline.scan.scorer import ShardScorer
from fineline.scan.shards import Shard
from fineline.scan.store import schema

TEXTS = ["tell anyone", "", "他说要打断你的手", "word " * 200, "\ud800 нет", "find you", "help " * 90 + "他说" * 60]
CONTEXTS = [None, "why?", None, "what?", "", "tell me " * 30, None]


def shard(duplicates: dict[int, int] | None = None) -> Shard:
    documents = tuple(
        Document(file=0, row=i, text=text, context=context, id=f"{i}\ud800", lang="en", source=None)
        for i, (text, context) in enumerate(zip(TEXTS, CONTEXTS, strict=True))
    )
    return Shard(number=0, first=0, documents=documents, rejects=(), duplicates=duplicates or {})


@pytest.fixture(scope="module")
def scorer(tiny) -> ShardScorer:
    return ShardScorer(tiny.bundle_fp32, 1)


def logits(table) -> np.ndarray:
    return np.array(table["logits"].to_pylist(), dtype=np.float32)


def test_scores_are_those_of_the_classifier(scorer, classifier_fp32):
    table = scorer.score(shard())
    assert table.schema.equals(schema(len(scorer.labels)))
    np.testing.assert_allclose(logits(table), classifier_fp32.logits(TEXTS, CONTEXTS), atol=1e-4)
    verdicts = classifier_fp32.classify(TEXTS, CONTEXTS)
    assert table["windows"].to_pylist() == [len(verdict.windows) for verdict in verdicts]
    assert table["characters"].to_pylist() == [len(text) for text in TEXTS]
    assert table["id"].to_pylist() == [f"{i}?" for i in range(len(TEXTS))]
    assert table["duplicate_of"].null_count == len(TEXTS)
    for row, verdict in zip(table.to_pylist(), verdicts, strict=True):
        best = [max(verdict.windows, key=lambda window: window.scores[label]) for label in scorer.labels]
        many = len(verdict.windows) > 1
        assert row["starts"] == [window.start for window in best] * many
        assert row["ends"] == [window.end for window in best] * many


def test_tokens_are_those_given_to_the_model(scorer, classifier_fp32):
    encoded = classifier_fp32.encoder.encode(TEXTS, CONTEXTS)
    expected = [sum(len(window.ids) for window in windows) for windows in encoded]
    assert scorer.score(shard())["tokens"].to_pylist() == expected


def test_windows_held_in_several_groups_give_the_same(scorer, monkeypatch):
    whole = scorer.score(shard())
    monkeypatch.setattr(module, "_HELD_WINDOWS", 3)
    monkeypatch.setattr(module, "_CHUNK_TEXTS", 2)
    table = scorer.score(shard())
    np.testing.assert_allclose(logits(table), logits(whole), atol=1e-4)
    # Windows of repeated sentences score alike up to rounding, which then picks the place.
    rounded = ["logits", "starts", "ends"]
    assert table.drop_columns(rounded).equals(whole.drop_columns(rounded))


def test_a_text_in_blocks_is_covered_and_its_places_point_into_it(scorer, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_CHARACTERS", 300)
    monkeypatch.setattr(module, "_BLOCK_OVERLAP", 50)
    monkeypatch.setattr(module, "_HELD_WINDOWS", 2)
    text = "a much longer text that goes on for a while " * 30 + "他说要打断你的手"
    blocks = list(module._blocks(text))
    assert "".join(block[50 if offset else 0 :] for offset, block in blocks) == text
    assert all(text[offset : offset + 300] == block for offset, block in blocks)
    document = Document(file=0, row=0, text=text, context=None, id=None, lang=None, source=None)
    found = scorer.score(Shard(number=0, first=0, documents=(document,), rejects=(), duplicates={})).to_pylist()[0]
    assert found["windows"] > len(blocks) > 4
    encoded = scorer._encoder.encode([block for _, block in blocks])
    spans = [(w.start + o, w.end + o) for (o, _), windows in zip(blocks, encoded, strict=True) for w in windows]
    table = np.concatenate([scorer._engine.logits(windows) for windows in encoded])
    np.testing.assert_allclose(found["logits"], table.max(axis=0), atol=1e-4)
    assert list(zip(found["starts"], found["ends"], strict=True)) == [spans[top] for top in table.argmax(axis=0)]


@pytest.mark.parametrize("length", [0, 1, 299, 300, 301, 549, 550, 551, 800])
def test_blocks_cover_every_length(monkeypatch, length):
    monkeypatch.setattr(module, "_BLOCK_CHARACTERS", 300)
    monkeypatch.setattr(module, "_BLOCK_OVERLAP", 50)
    text = "".join(chr(0x4E00 + i) for i in range(length))
    blocks = list(module._blocks(text))
    assert "".join(block[50 if offset else 0 :] for offset, block in blocks) == text
    assert len(blocks) == (1 if length <= 300 else -(-(length - 50) // 250))


def test_duplicates_are_not_scored(scorer, monkeypatch):
    given: list[int] = []
    engine = scorer._engine
    real = engine.logits
    monkeypatch.setattr(engine, "logits", lambda windows: (given.append(len(windows)), real(windows))[1])
    table = scorer.score(shard({0: 0, 3: 1, 6: 2}))
    kept = [i for i in range(len(TEXTS)) if i not in (0, 3, 6)]
    assert sum(given) == sum(n for n in table["windows"].to_pylist() if n)
    assert table["duplicate_of"].to_pylist() == [0, None, None, 1, None, None, 2]
    for name in ("logits", "starts", "ends", "windows", "tokens"):
        assert [i for i, value in enumerate(table[name].to_pylist()) if value is not None] == kept


def test_a_shard_without_documents_is_an_empty_table(scorer):
    empty = scorer.score(Shard(number=0, first=0, documents=(), rejects=(), duplicates={}))
    assert empty.num_rows == 0
    assert empty.schema.equals(schema(len(scorer.labels)))
    assert scorer.score(shard(dict.fromkeys(range(len(TEXTS)), 0)))["logits"].null_count == len(TEXTS)
