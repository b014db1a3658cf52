"""The classifier: encoder, attention of each label over the judged text, one output a label; and its loss."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fineline_training.sharing import SharedDropout

HEAD_PRIOR = -3.0
"""Initial bias of every output: about 5 % of rows are positive, and from zero the first steps only learn that."""

MASKED = -1e4
"""Added to the attention of tokens that are not judged."""

PAIR_MARGIN = 3.0
"""Gap in logits that twins should have: probabilities of 0.18 and 0.82 around a threshold of 0.5."""


class LabelAttention(nn.Module):
    """One output a label, from the tokens that this label attends to.

    A sentence that breaks one rule in a long lawful text is lost in the mean over all tokens; here each label weighs
    the tokens itself (Mullenbach et al. 2018, "Explainable Prediction of Medical Codes from Clinical Text"). Queries
    start at zero, where the weights are equal: the mean that the backbone was pretrained with.

    Args:
        hidden: Size of a token's vector.
        labels: Number of outputs.
    """

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.out_features = labels
        self.query = nn.Linear(hidden, labels, bias=False)
        self.value = nn.Linear(hidden, labels)
        nn.init.zeros_(self.query.weight)
        nn.init.normal_(self.value.weight, std=0.02)
        nn.init.constant_(self.value.bias, HEAD_PRIOR)

    def forward(self, hidden: Tensor, judged: Tensor) -> Tensor:
        """Logits, float32, shape (batch, labels).

        Args:
            hidden: Vectors of the tokens, shape (batch, tokens, hidden).
            judged: 1 on the tokens to judge, else 0, shape (batch, tokens).
        """
        # A finite mask keeps a row with nothing to judge finite.
        masked = (1 - judged.unsqueeze(-1).float()) * MASKED
        weights = (self.query(hidden).float() + masked).softmax(dim=1)
        logits: Tensor = (weights * self.value(hidden).float()).sum(dim=1)
        return logits


class SafetyModel(nn.Module):
    """Encoder and head.

    Only the first segment is pooled: the context is read through the encoder's attention but is never judged itself.

    Args:
        encoder: Encoder without a pooler.
        labels: Number of outputs.
        dropout: Dropout on the vectors that enter the head.
        encoder_dropout: Dropout inside the encoder.
    """

    def __init__(
        self, encoder: PreTrainedModel, labels: int, dropout: float = 0.1, encoder_dropout: float = 0.0
    ) -> None:
        super().__init__()
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = encoder_dropout
        self.encoder = encoder
        self.dropout = SharedDropout(dropout)
        self.head = LabelAttention(encoder.config.hidden_size, labels)

    @property
    def words(self) -> nn.Embedding:
        """The word embeddings."""
        table = self.encoder.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        return table

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits, float, shape (batch, labels), from three int64 inputs of shape (batch, tokens)."""
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        logits: Tensor = self.head(self.dropout(hidden), attention_mask * (1 - token_type_ids))
        return logits


def masked_loss(logits: Tensor, labels: Tensor, any_of: Tensor) -> Tensor:
    """Binary cross-entropy over what a row knows.

    Public sets know only some labels, and some know only that one of several grounds holds. A known label adds its
    cross-entropy, to a share between 0 and 1 where annotators disagreed; a row with an ``any_of`` set adds
    ``-log(1 - prod(1 - p))`` over the set. Unknown labels add nothing.

    Args:
        logits: Shape (batch, labels).
        labels: Shape (batch, labels); 1, 0, a share in between, or -1 for unknown.
        any_of: Bool, shape (batch, labels); all false where the row has no such set.

    Returns:
        Mean over rows of the row's sum, a scalar.
    """
    known = labels >= 0
    targets = labels.clamp(min=0).to(logits.dtype)
    each = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    rows = (each * known).sum(dim=1)
    none_holds = (nn.functional.logsigmoid(-logits) * any_of).sum(dim=1)
    has_set = any_of.any(dim=1)
    # -log(1 - exp(x)); near 0 it is -log(-x), where -x = sum of p is the sum of exp(logit): that keeps the slope.
    near = none_holds > -1e-4
    odds = logits.masked_fill(~any_of, -torch.inf).masked_fill(~has_set.unsqueeze(1), 0.0).logsumexp(dim=1)
    set_loss = -torch.where(near, odds, torch.log1p(-torch.exp(none_holds.clamp(max=-1e-4))))
    return (rows + torch.where(has_set, set_loss, torch.zeros_like(set_loss))).mean()


def distance(logits: Tensor, teacher: Tensor) -> Tensor:
    """How far probabilities are from those of another model.

    Binary cross-entropy to the teacher's probabilities (Hinton et al. 2015, "Distilling the Knowledge in a Neural
    Network") less its lowest value, so that equal models are at distance 0. The gradient is the same without it.

    Args:
        logits: Shape (batch, labels).
        teacher: The other model's logits, shape (batch, labels); NaN where it is not asked.

    Returns:
        Mean over rows of the row's sum, a scalar.
    """
    asked = ~teacher.isnan()
    wanted = teacher.nan_to_num()
    each = nn.functional.binary_cross_entropy_with_logits(logits, wanted.sigmoid(), reduction="none")
    lowest = nn.functional.binary_cross_entropy_with_logits(wanted, wanted.sigmoid(), reduction="none")
    return ((each - lowest) * asked).sum(dim=1).mean()


def pair_loss(logits: Tensor, labels: Tensor, pairs: Tensor) -> Tensor:
    """How far flagged texts fail to stand above their lawful twins, on the labels they break.

    For a label that one row of a pair has and another has not, ``softplus(PAIR_MARGIN - difference of logits)``: the
    topic raises both, so only what differs between them can lower it.

    Args:
        logits: Shape (batch, labels).
        labels: Shape (batch, labels); 1, 0, or -1 for unknown.
        pairs: Shape (batch,); rows of one contrast set share a number, -1 for none.

    Returns:
        Sum over such comparisons, each row's averaged, divided by the number of rows; a scalar.
    """
    twins = (pairs.unsqueeze(1) == pairs.unsqueeze(0)) & (pairs >= 0).unsqueeze(1)
    compared = twins.unsqueeze(2) & (labels == 1).unsqueeze(1) & (labels == 0).unsqueeze(0)
    gap = logits.unsqueeze(1) - logits.unsqueeze(0)
    each = nn.functional.softplus(PAIR_MARGIN - gap) * compared
    counts = compared.sum(dim=(1, 2)).clamp(min=1)
    return (each.sum(dim=(1, 2)) / counts).sum() / max(1, len(logits))
