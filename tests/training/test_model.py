"""The model pools what is judged; the loss learns only from what a row knows."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fineline.encoding import collate
from fineline_training.model import HEAD_PRIOR, PAIR_MARGIN, SafetyModel, distance, masked_loss, pair_loss

LABELS = 6
logit = st.floats(-80, 80, width=32)
rows = st.lists(st.lists(logit, min_size=LABELS, max_size=LABELS), min_size=1, max_size=4)


class Table(nn.Module):
    """An encoder without attention: what enters the pooling is then exactly visible."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=8)
        self.words = nn.Embedding(50, 8)

    def forward(self, input_ids, attention_mask, token_type_ids):
        return SimpleNamespace(last_hidden_state=self.words(input_ids))


@pytest.fixture
def table_model() -> SafetyModel:
    torch.manual_seed(3)
    return SafetyModel(Table(), LABELS).eval()


def inputs(ids, mask, types):
    return [torch.tensor([row]) for row in (ids, mask, types)]


def test_context_and_padding_do_not_enter_the_pooling(table_model):
    plain = table_model(*inputs([0, 5, 6, 2], [1] * 4, [0] * 4))
    with_context = table_model(*inputs([0, 5, 6, 2, 2, 9, 9, 2], [1] * 8, [0] * 4 + [1] * 4))
    padded = table_model(*inputs([0, 5, 6, 2, 1, 1], [1] * 4 + [0] * 2, [0] * 6))
    torch.testing.assert_close(plain, with_context)
    torch.testing.assert_close(plain, padded)
    other = table_model(*inputs([0, 5, 7, 2], [1] * 4, [0] * 4))
    assert not torch.allclose(plain, other)


def test_a_new_model_pools_by_the_mean_over_judged_tokens(table_model):
    ids = [0, 5, 6, 2]
    mean = table_model.encoder.words(torch.tensor(ids)).mean(dim=0)
    torch.testing.assert_close(table_model(*inputs(ids, [1] * 4, [0] * 4))[0], table_model.head.value(mean))


def test_a_label_can_attend_to_one_token_and_leave_the_others_alone(table_model):
    with torch.no_grad():
        table_model.head.query.weight[2] = 50 * table_model.encoder.words.weight[6]
    ids = [0, 5, 6, 2]
    logits = table_model(*inputs(ids, [1] * 4, [0] * 4))[0]
    values = table_model.head.value(table_model.encoder.words(torch.tensor(ids)))
    torch.testing.assert_close(logits[2], values[2, 2])
    torch.testing.assert_close(logits[3], values[:, 3].mean())


def test_a_row_with_nothing_to_judge_is_finite(table_model):
    assert table_model(*inputs([0, 2], [1, 1], [1, 1])).isfinite().all()


def test_a_context_is_read_through_attention(tiny, tiny_encoder):
    windows = [row[0] for row in tiny_encoder.encode(["Yes."] * 2, [None, "Shall we rob it?"])]
    batch = {name: torch.from_numpy(array) for name, array in collate(windows, tiny_encoder.pad).items()}
    with torch.no_grad():
        alone, answered = tiny.model(**batch)
    assert (alone - answered).abs().max() > 1e-3


def test_outputs_start_at_the_prior(tiny_backbone):
    model = SafetyModel(tiny_backbone.model, 21)
    assert model.head.out_features == 21
    assert torch.equal(model.head.value.bias, torch.full((21,), HEAD_PRIOR))


def nothing_of(logits: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(logits, dtype=torch.bool)


@settings(deadline=None)
@given(rows, st.data())
def test_unknown_labels_give_no_gradient_and_known_ones_do(values, data):
    logits = torch.tensor(values, requires_grad=True)
    mark = st.sampled_from([-1, 0, 1])
    labels = torch.tensor([[data.draw(mark) for _ in range(LABELS)] for _ in values], dtype=torch.int8)
    masked_loss(logits, labels, nothing_of(logits)).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[labels == -1] == 0).all()
    wrong = ((labels == 1) & (logits < 5)) | ((labels == 0) & (logits > -5))
    assert (logits.grad[wrong] != 0).all()


@settings(deadline=None)
@given(rows)
def test_known_labels_cost_their_cross_entropy(values):
    logits = torch.tensor(values, dtype=torch.float64)
    labels = (logits * 7).round().long().remainder(3) - 1
    expected = 0.0
    for row, marks in zip(values, labels.tolist(), strict=True):
        for x, mark in zip(row, marks, strict=True):
            if mark >= 0:
                expected += max(x, 0) - x * mark + math.log1p(math.exp(-abs(x)))
    loss = masked_loss(logits, labels, nothing_of(logits))
    assert float(loss) == pytest.approx(expected / len(values), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=200)
@given(rows, st.data())
def test_a_set_costs_the_log_of_any_and_is_finite_everywhere(values, data):
    logits = torch.tensor(values, requires_grad=True)
    members = torch.tensor([[data.draw(st.booleans()) for _ in range(LABELS)] for _ in values])
    labels = torch.full(logits.shape, -1, dtype=torch.int8)
    loss = masked_loss(logits, labels, members)
    loss.backward()
    assert loss.isfinite()
    assert loss >= 0
    assert logits.grad.isfinite().all()
    assert (logits.grad[~members] == 0).all()
    assert (logits.grad <= 0).all(), "more of any member can only help"
    expected = 0.0
    for row, chosen in zip(values, members.tolist(), strict=True):
        none_holds = sum(-(max(x, 0) + math.log1p(math.exp(-abs(x)))) for x, c in zip(row, chosen, strict=True) if c)
        if any(chosen):
            expected += -math.log(-math.expm1(none_holds))
    assert float(loss.detach()) == pytest.approx(expected / len(values), rel=2e-3, abs=1e-5)


def test_a_set_that_already_holds_costs_nothing_and_one_that_does_not_is_pulled_up():
    logits = torch.tensor([[9.0, -9.0], [-3.0, -3.0]], requires_grad=True)
    labels = torch.full((2, 2), -1)
    loss = masked_loss(logits, labels, torch.tensor([[True, True], [True, True]]))
    loss.backward()
    assert logits.grad[0].abs().max() < 1e-3
    assert (logits.grad[1] < -0.2).all()


def test_a_row_that_knows_nothing_costs_nothing():
    logits = torch.randn(3, LABELS, requires_grad=True)
    loss = masked_loss(logits, torch.full((3, LABELS), -1), nothing_of(logits))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("level", [-10.0, -16.0, -30.0])
def test_a_set_is_pulled_up_from_however_far_below(level):
    logits = torch.tensor([[level, level, 5.0], [level, level + 1, 5.0]], requires_grad=True)
    members = torch.tensor([[True, True, False]] * 2)
    masked_loss(logits, torch.full((2, 3), -1), members).backward()
    # The slope of -log of a sum of small probabilities: each member's share in it; halved by the mean of two rows.
    torch.testing.assert_close(logits.grad[0], torch.tensor([-0.25, -0.25, 0.0]), atol=1e-3, rtol=0)
    share = 1 / (1 + math.e)
    torch.testing.assert_close(logits.grad[1], torch.tensor([-share, share - 1, 0.0]) / 2, atol=1e-3, rtol=0)


def test_the_loss_of_a_set_has_no_step_where_its_form_changes():
    levels = torch.linspace(-12, -7, 400, dtype=torch.float64)
    logits = levels.unsqueeze(1).repeat(1, 2)
    members = torch.ones((1, 2), dtype=torch.bool)
    losses = torch.stack([masked_loss(row.unsqueeze(0), torch.full((1, 2), -1), members) for row in logits])
    steps = losses.diff() / levels.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, -1.0), atol=0.05, rtol=0)


# --- twins


def pair_cost(gap: float) -> float:
    return math.log1p(math.exp(PAIR_MARGIN - gap))


def test_a_flagged_text_is_set_above_its_twin_on_the_label_it_breaks():
    logits = torch.tensor([[1.0, 0.3], [0.5, 0.8], [4.0, -4.0]], requires_grad=True)
    loss = pair_loss(logits, torch.tensor([[1, 0], [0, 0], [0, 1]]), torch.tensor([7, 7, -1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(pair_cost(0.5) / 3)
    assert logits.grad[0, 0] < 0 < logits.grad[1, 0]
    assert float(logits.grad[0, 0]) == pytest.approx(-float(logits.grad[1, 0]))
    assert (logits.grad[:, 1] == 0).all(), "no row of the pair breaks the other label"
    assert (logits.grad[2] == 0).all(), "a row outside any pair has no twin"


def test_several_twins_are_averaged_so_that_a_large_set_weighs_no_more():
    labels, pairs = torch.tensor([[1], [0], [0], [0]]), torch.tensor([0, 0, 0, 0])
    many = pair_loss(torch.tensor([[1.0], [0.0], [2.0], [-1.0]]), labels, pairs)
    assert float(many) == pytest.approx((pair_cost(1) + pair_cost(-1) + pair_cost(2)) / 3 / 4)


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [([[1], [0]], [-1, -1]), ([[1], [0]], [0, 1]), ([[1], [1]], [0, 0]), ([[0], [0]], [0, 0]), ([[1], [-1]], [0, 0])],
)
def test_without_a_known_contrast_there_is_nothing_to_compare(labels, pairs):
    logits = torch.randn(2, 1, requires_grad=True)
    loss = pair_loss(logits, torch.tensor(labels), torch.tensor(pairs))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


@settings(deadline=None)
@given(rows, st.data())
def test_the_pair_loss_is_the_mean_over_rows_of_their_comparisons(values, data):
    marks = [[data.draw(st.sampled_from([-1, 0, 1])) for _ in range(LABELS)] for _ in values]
    pairs = [data.draw(st.integers(-1, 1)) for _ in values]
    logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    loss = pair_loss(logits, torch.tensor(marks, dtype=torch.int8), torch.tensor(pairs))
    loss.backward()
    assert logits.grad.isfinite().all()
    expected = 0.0
    for one, row in enumerate(values):
        costs = [
            max(PAIR_MARGIN - row[label] + values[other][label], 0)
            + math.log1p(math.exp(-abs(PAIR_MARGIN - row[label] + values[other][label])))
            for other in range(len(values))
            for label in range(LABELS)
            if pairs[one] == pairs[other] >= 0 and marks[one][label] == 1 and marks[other][label] == 0
        ]
        expected += sum(costs) / max(1, len(costs))
    assert float(loss.detach()) == pytest.approx(expected / len(values), rel=1e-9, abs=1e-9)


def test_a_share_is_learned_as_a_share():
    logits = torch.zeros(1, 2, requires_grad=True)
    masked_loss(logits, torch.tensor([[0.7, -1.0]]), nothing_of(logits)).backward()
    assert logits.grad.tolist() == [[pytest.approx(0.5 - 0.7), 0.0]]


@settings(deadline=None)
@given(rows)
def test_the_distance_to_itself_is_nothing_and_the_slope_leads_to_the_teacher(values):
    logits = torch.tensor(values, requires_grad=True)
    assert float(distance(logits.detach(), logits.detach())) == pytest.approx(0, abs=1e-4)
    teacher = logits.detach().clamp(-4, 4) * -0.5 + 1
    teacher[:, 0] = torch.nan
    found = distance(logits, teacher)
    assert float(found.detach()) >= -1e-5
    found.backward()
    assert (logits.grad[:, 0] == 0).all()
    wanted = (logits.detach().sigmoid() - teacher.sigmoid())[:, 1:] / len(values)
    torch.testing.assert_close(logits.grad[:, 1:], wanted, atol=1e-5, rtol=1e-4)
