"""A batch on several processes: every row once, twins together, and the sum of the steps is the step of one."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fineline_training.sharing import SharedDropout, draw_for, share_of

pairs = st.lists(st.integers(-1, 4), min_size=1, max_size=30)


@given(pairs, st.integers(1, 5))
def test_every_row_has_one_process_and_twins_have_the_same(drawn, processes):
    numbers = np.array(drawn, dtype=np.int64)
    shares = [share_of(numbers, processes, process) for process in range(processes)]
    held = [share.places if share.weight else [] for share in shares]
    assert sorted(place for places in held for place in places) == list(range(len(drawn)))
    assert all(share.places for share in shares), "a process without rows would block the others"
    for pair in set(drawn) - {-1}:
        assert len({number for number, places in enumerate(held) for p in places if drawn[p] == pair}) == 1


@given(pairs, st.integers(1, 5))
def test_weighted_means_of_the_shares_average_to_the_mean_of_the_batch(drawn, processes):
    losses = np.arange(len(drawn)) ** 2 + 1.0
    shares = [share_of(np.array(drawn, dtype=np.int64), processes, process) for process in range(processes)]
    found = np.mean([share.weight * losses[share.places].mean() for share in shares])
    assert found == pytest.approx(losses.mean())


def test_dropout_of_a_share_is_that_of_the_whole_batch():
    hidden = torch.ones(5, 7, 8)
    layer = SharedDropout(0.4)
    torch.manual_seed(3)
    whole = layer(hidden)
    states = []
    for places in ([0, 3], [1, 2, 4]):
        torch.manual_seed(3)
        draw_for(layer, 5, 7, places)
        # The rows here are shorter than the longest of the batch.
        assert torch.equal(layer(hidden[places, :6]), whole[places, :6])
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    assert torch.equal(layer.eval()(hidden), hidden)


CHILD = textwrap.dedent(
    """
    import sys
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
    shared, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = Tokenizer.from_file(str(shared / "tokenizer.json"))
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=64, max_position_embeddings=512)
    torch.manual_seed(1)
    model = SafetyModel(BertModel(config, add_pooling_layer=False), 3, dropout=0.3)
    fit = Fit(model=model, encoder=Encoder(tokenizer, WindowSpec(size=64, overlap=12, context=16)),
              label_ids=("violence", "insult", "privacy"),
              mixture=Mixture(read_rows(shared / "rows.jsonl").records, DataSpec(sources={"toy": SourceSpec()}), 3),
              spec=FitSpec(epochs=1, batch_tokens=160, window=64, precision="fp32", dropout=0.3, pair_weight=1.0),
              seed=3, folder=folder, dev=[])
    fit.resume()
    state = fit.run().state_dict()
    if fit.accelerator.is_main_process:
        torch.save(state, folder / "final.pt")
        print("processes", fit.accelerator.num_processes)
    """
)


@pytest.mark.slow
def test_two_processes_end_where_one_does(tiny_tokenizer, source_env, tmp_path):
    from fineline_training.records import Record, write_rows

    tiny_tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [
        Record(
            text=f"{'I will find you' if i % 2 else 'the nurse asked'} {'about a letter ' * (i % 5)}{i}",
            lang="en",
            labels={"violence": i % 2, **({"insult": 0} if i % 3 else {})},
            source="toy",
            pair=f"p{i // 2}" if i % 7 else "",
        )
        for i in range(40)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    launched = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launched += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    states = {}
    for name, words in (("one", []), ("two", launched)):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, *words, str(script), str(tmp_path), str(folder)]
        env = source_env | {"HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"processes {1 if name == 'one' else 2}" in done.stdout
        states[name] = torch.load(folder / "final.pt", weights_only=True)
    moved = max(float((a - b).abs().max()) for a, b in zip(states["one"].values(), states["two"].values(), strict=True))
    assert moved < TOLERANCE


TOLERANCE = 2e-5
"""Weights after some ten steps: what another order of sums leaves. Without weights by rows it is 1e-3."""
