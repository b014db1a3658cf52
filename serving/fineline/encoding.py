"""Text to model inputs: one view, tokens, and windows that together cover every character.

The text is the first segment; the optional context (what the text answers) is the second and is read, never judged:
the model pools over the first segment alone.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fineline.errors import ConfigError
from fineline.text import AlignedText, View, normalise

_REMEMBERED = 1000
"""Words that the tokenizer remembers; more of them do not make it faster."""

_MARKERS = 4
"""Markers of a window with a context: ``<s> text </s></s> context </s>``."""


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Sizes in tokens.

    Attributes:
        size: Longest sequence the model is given, markers and context included.
        overlap: Tokens of the text that neighbouring windows share.
        context: Most tokens of the context that are read; its end is kept, where a prompt usually asks.
    """

    size: int = 256
    overlap: int = 48
    context: int = 96

    def __post_init__(self) -> None:
        if min(self.overlap, self.context) < 0 or self.size < self.context + _MARKERS + 1:
            raise ConfigError(
                "window_size",
                f"A window of {self.size} tokens has no room for text beside a context of {self.context}: it needs at "
                f"least {self.context + _MARKERS + 1}, and neither overlap nor context may be negative.",
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """One model input.

    Attributes:
        ids: int64, shape (tokens,).
        types: int64, shape (tokens,); 0 on the text and its markers, 1 on the context.
        start: Offset of its first character in the caller's text.
        end: Offset after its last character.
        context_cut: Whether the context's beginning was left out.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    start: int
    end: int
    context_cut: bool = False


def _marker(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ConfigError("tokenizer_markers", f"The tokenizer lacks {token}; Fineline needs XLM-R style markers.")
    return found


class Encoder:
    """Turns texts into windows; safe to share between threads.

    Args:
        tokenizer: Fast tokenizer with XLM-R style markers (``<s> text </s></s> context </s>``).
        spec: Window sizes.
        view: View of the text the model was trained on.
    """

    def __init__(self, tokenizer: Tokenizer, spec: WindowSpec, view: View = View.SIMPLIFIED) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # It remembers words, and where no spaces are whole sentences, of what it has read: by default 10,000.
        with suppress(AttributeError):  # not in every release
            tokenizer.model._resize_cache(_REMEMBERED)
        self.tokenizer = tokenizer
        self.spec = spec
        self.view = view
        self.pad = _marker(tokenizer, "<pad>")
        # A text may spell a marker out; read as the marker it would forge a segment border, so it is read as unknown.
        unknown = _marker(tokenizer, "<unk>")
        self._forged = {_marker(tokenizer, token): unknown for token in ("<s>", "</s>", "<pad>")}
        self._begin = _marker(tokenizer, "<s>")
        self._end = _marker(tokenizer, "</s>")

    def encode(self, texts: Sequence[str], contexts: Sequence[str | None] | None = None) -> list[list[Window]]:
        """Encode texts.

        Args:
            texts: Any strings; an empty one gives one window of markers.
            contexts: Per text what it answers, or ``None``.

        Returns:
            Per text its windows in order; their spans cover the whole text.
        """
        views = [normalise(text, self.view) for text in texts]
        encodings = self.tokenizer.encode_batch([view.text for view in views], add_special_tokens=False)
        contexts = contexts or [None] * len(texts)
        return [
            self._windows(view, self._plain(encoding.ids), encoding.offsets, self._context_ids(context))
            for view, encoding, context in zip(views, encodings, contexts, strict=True)
        ]

    def _context_ids(self, context: str | None) -> list[int]:
        if not context:
            return []
        return self._plain(self.tokenizer.encode(normalise(context, self.view).text, add_special_tokens=False).ids)

    def _plain(self, ids: list[int]) -> list[int]:
        return [self._forged.get(token, token) for token in ids]

    def _windows(
        self, view: AlignedText, ids: list[int], offsets: list[tuple[int, int]], context: list[int]
    ) -> list[Window]:
        kept = context[max(0, len(context) - self.spec.context) :]
        tail = [self._end, *kept, self._end] if kept else []
        room = self.spec.size - 2 - len(tail)
        # A long context leaves little room: a step of one token would cost a window for every token of the text.
        step = max(1, room - min(self.spec.overlap, room // 2))
        windows = []
        for low in range(0, max(1, len(ids)), step):
            high = min(low + room, len(ids))
            body = [self._begin, *ids[low:high], self._end]
            start = view.span(offsets[low][0], offsets[high - 1][1])[0] if low else 0
            end = view.source_length if high == len(ids) else view.span(offsets[low][0], offsets[high - 1][1])[1]
            windows.append(
                Window(
                    ids=np.array(body + tail, dtype=np.int64),
                    types=np.array([0] * len(body) + [1] * len(tail), dtype=np.int64),
                    start=start,
                    end=end,
                    context_cut=len(kept) < len(context),
                )
            )
            if high == len(ids):
                break
        return windows


def collate(windows: Sequence[Window], pad: int) -> dict[str, NDArray[np.int64]]:
    """Pad windows into the model's three inputs, each int64 of shape (windows, longest)."""
    width = max(len(window.ids) for window in windows)
    inputs = {
        "input_ids": np.full((len(windows), width), pad, dtype=np.int64),
        "attention_mask": np.zeros((len(windows), width), dtype=np.int64),
        "token_type_ids": np.zeros((len(windows), width), dtype=np.int64),
    }
    for row, window in enumerate(windows):
        count = len(window.ids)
        inputs["input_ids"][row, :count] = window.ids
        inputs["attention_mask"][row, :count] = 1
        inputs["token_type_ids"][row, :count] = window.types
    return inputs


def equal_batches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Group indices of equal length in batches of at most ``tokens`` tokens (at least one row), shortest first.

    Nothing is padded, so no row's numbers depend on its neighbours.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    batches: list[list[int]] = []
    for length, group in sorted(groups.items()):
        rows = max(1, tokens // length)
        batches += [group[low : low + rows] for low in range(0, len(group), rows)]
    return batches
