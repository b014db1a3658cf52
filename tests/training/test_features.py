"""Features of the served model: its own logits, and the vectors that enter its head."""

import numpy as np

from fineline_training.labels.features import text_features

TEXTS = ["tell anyone and I will find you", "", "他说要打断你的手", "one more text " * 60]
CONTEXTS = [None, None, "发生了什么？", None]


def test_logits_come_first_and_are_the_served_ones(tiny_bundle, classifier):
    found = text_features(tiny_bundle, TEXTS, CONTEXTS, threads=1)
    windows = [row[0] for row in classifier.encode(TEXTS, CONTEXTS)]
    expected = classifier.engine.logits(windows)
    assert found.shape == (4, expected.shape[1] + 2 * 32) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=1e-3)


def test_vectors_are_means_over_the_judged_tokens(tiny, tiny_bundle, tiny_encoder):
    import torch

    from fineline.encoding import collate

    found = text_features(tiny_bundle, TEXTS, CONTEXTS, threads=1)[:, -32:]
    for row, (window, *_) in enumerate(tiny_encoder.encode(TEXTS, CONTEXTS)):
        inputs = {name: torch.from_numpy(array) for name, array in collate([window], tiny_encoder.pad).items()}
        with torch.no_grad():
            hidden = tiny.model.encoder(**inputs).last_hidden_state[0]
        expected = hidden[inputs["token_type_ids"][0] == 0].mean(dim=0).numpy()
        # The bundle computes in int8.
        assert np.corrcoef(found[row], expected)[0, 1] > 0.98


def test_a_graph_without_the_written_head_gives_its_logits(tiny, classifier_fp32):
    found = text_features(tiny.bundle_fp32, TEXTS, CONTEXTS, threads=1)
    windows = [row[0] for row in classifier_fp32.encode(TEXTS, CONTEXTS)]
    np.testing.assert_allclose(found, classifier_fp32.engine.logits(windows), atol=1e-4)


def test_rows_are_counted(tiny_bundle):
    counted = []
    text_features(tiny_bundle, ["a"] * 600, [None] * 600, threads=1, on_rows=counted.append)
    assert counted == [512, 88]


def test_no_text_gives_no_row():
    assert text_features(None, [], []).shape == (0, 0)
