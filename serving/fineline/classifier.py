"""Texts to verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fineline.bundle import TOKENIZER, Bundle, load_bundle
from fineline.calibration import calibrated
from fineline.devices import open_engine
from fineline.encoding import Encoder, Window
from fineline.engine import BATCH_TOKENS, CPU
from fineline.errors import BundleError, InputError
from fineline.policy import DEFAULT_POLICY, Action, get_policy
from fineline.text import View

_CHUNK_TEXTS, _CHUNK_CHARACTERS = 512, 1_000_000
"""Encoded at once, so that memory stays flat however many texts are given and however long they are."""


@dataclass(frozen=True, kw_only=True)
class WindowScore:
    """Scores of one stretch of the text.

    Attributes:
        start: Offset of its first character in the text as it was given.
        end: Offset after its last one.
        scores: Calibrated probability by label.
    """

    start: int
    end: int
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the classifier says of one text.

    Attributes:
        action: ``allow``, ``review`` or ``block`` under the policy.
        flagged: Labels whose score reached the threshold, highest score first.
        scores: Calibrated probability by label: the highest over the windows.
        thresholds: The policy's thresholds by label.
        windows: Each stretch that was judged; together they cover the text.
        rules: The plain rule behind each flagged label.
        model: ``name@version`` of the bundle.
        policy: Name of the policy.
        context_cut: Whether a long context was read from its end only.
    """

    action: Action
    flagged: tuple[str, ...]
    scores: Mapping[str, float]
    thresholds: Mapping[str, float]
    windows: tuple[WindowScore, ...]
    rules: Mapping[str, str]
    model: str
    policy: str
    context_cut: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain data with rounded scores, for JSON."""

        def rounded(scores: Mapping[str, float]) -> dict[str, float]:
            return {label: round(score, 6) for label, score in scores.items()}

        return {
            "action": str(self.action),
            "flagged": list(self.flagged),
            "scores": rounded(self.scores),
            "thresholds": dict(self.thresholds),
            "windows": [{"start": w.start, "end": w.end, "scores": rounded(w.scores)} for w in self.windows],
            "rules": dict(self.rules),
            "model": self.model,
            "policy": self.policy,
            "context_cut": self.context_cut,
        }


def check_texts(texts: Sequence[str], contexts: Sequence[str | None] | None) -> None:
    """Check the arguments of ``Classifier.classify``.

    Raises:
        InputError: One is not a list of strings, or the lists differ in length.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InputError("input_type", "texts must be a list of strings; put a single text into a list.")
    if contexts is not None and (isinstance(contexts, str) or len(contexts) != len(texts)):
        raise InputError("input_length", "contexts must be a list with one entry (a string or None) a text.")
    if contexts is not None and not all(isinstance(context, str | None) for context in contexts):
        raise InputError("input_type", "every context must be a string or None.")


def _chunk_bounds(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    low, characters = 0, 0
    for high, text in enumerate(texts):
        if high > low and (high - low == _CHUNK_TEXTS or characters + len(text) > _CHUNK_CHARACTERS):
            yield low, high
            low, characters = high, 0
        characters += len(text)
    if low < len(texts):
        yield low, len(texts)


class Classifier:
    """Judges texts with a bundle.

    Args:
        bundle: A verified bundle.
        policy: Policy used when a call names none.
        threads: Threads a run may use; all cores when ``None``.
        device: ``cpu``, ``cuda`` or ``auto``, as for ``open_engine``.
        batch_tokens: Tokens of a run of the model, by device.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        policy: str = DEFAULT_POLICY,
        threads: int | None = None,
        device: str = CPU,
        batch_tokens: Mapping[str, int] = BATCH_TOKENS,
    ) -> None:
        self.bundle = bundle
        self.policy = get_policy(policy).name
        self.labels = bundle.meta.labels
        tokenizer = Tokenizer.from_file(str(bundle.path / TOKENIZER))
        self.encoder = Encoder(tokenizer, bundle.meta.window, View(bundle.meta.view))
        self.engine = open_engine(
            bundle, pad=self.encoder.pad, device=device, threads=threads, batch_tokens=batch_tokens
        )
        if self.engine.outputs != len(self.labels):
            raise BundleError(
                "bundle_labels",
                f"{bundle.path}: {self.engine.outputs} outputs for {len(self.labels)} labels; export it again.",
            )
        self._calibration = [bundle.meta.calibration[label] for label in self.labels]
        self._rules = {label: bundle.taxonomy[label].rule for label in self.labels}

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        policy: str = DEFAULT_POLICY,
        threads: int | None = None,
        device: str = CPU,
    ) -> "Classifier":
        """Load a bundle from a folder, the default model when ``path`` is ``None``; arguments as for the class.

        Raises:
            BundleError: The bundle is missing, altered, or made for another release.
            ConfigError: The policy or device is unknown.
        """
        return cls(load_bundle(path), policy=policy, threads=threads, device=device)

    def classify(
        self,
        texts: Sequence[str],
        contexts: Sequence[str | None] | None = None,
        *,
        policy: str | None = None,
    ) -> list[Verdict]:
        """Judge texts.

        Args:
            texts: Any strings, of any length; an empty one is allowed.
            contexts: Per text what it answers (the user's prompt), read but not judged.
            policy: Policy of this call.

        Returns:
            One verdict a text, in order.

        Raises:
            InputError: An argument is not a list of strings, or the lists differ in length.
            ConfigError: The policy is unknown.
        """
        name = get_policy(policy).name if policy else self.policy
        return [self.verdict(windows, logits, name) for windows, logits in self._judge(texts, contexts)]

    def encode(self, texts: Sequence[str], contexts: Sequence[str | None] | None = None) -> list[list[Window]]:
        """First step of ``classify``: texts to the windows that the model reads; safe to call from several threads.

        The second step is ``engine.logits`` on windows of any texts together, the third is ``verdict``.

        Args:
            texts: As for ``classify``; all are encoded at once, so memory grows with their length.
            contexts: As for ``classify``.

        Returns:
            Per text its windows, at least one.

        Raises:
            InputError: As ``classify``.
        """
        check_texts(texts, contexts)
        return self.encoder.encode(texts, contexts)

    def verdict(self, windows: Sequence[Window], logits: NDArray[np.float32], policy: str | None = None) -> Verdict:
        """Last step of ``classify``: the verdict on one text.

        Args:
            windows: All windows of the text, in order.
            logits: Their outputs, float32, shape (windows, labels).
            policy: Policy of this call.

        Raises:
            ConfigError: The policy is unknown.
        """
        chosen = self.bundle.policies[get_policy(policy or self.policy).name]
        thresholds = self.bundle.meta.thresholds[chosen.name]
        table = self.probabilities(logits)
        by_window = [dict(zip(self.labels, row, strict=True)) for row in table.tolist()]
        scores = dict(zip(self.labels, table.max(axis=0).tolist(), strict=True))
        flagged = tuple(sorted((x for x in self.labels if scores[x] >= thresholds[x]), key=lambda x: -scores[x]))
        return Verdict(
            action=chosen.action(flagged),
            flagged=flagged,
            scores=scores,
            thresholds=thresholds,
            windows=tuple(
                WindowScore(start=window.start, end=window.end, scores=row)
                for window, row in zip(windows, by_window, strict=True)
            ),
            rules={label: self._rules[label] for label in flagged},
            model=self.bundle.model_id,
            policy=chosen.name,
            context_cut=windows[0].context_cut,
        )

    def logits(self, texts: Sequence[str], contexts: Sequence[str | None] | None = None) -> NDArray[np.float32]:
        """Uncalibrated outputs, float32, shape (texts, labels): the highest over a text's windows."""
        rows = [logits.max(axis=0) for _, logits in self._judge(texts, contexts)]
        return np.stack(rows) if rows else np.zeros((0, len(self.labels)), dtype=np.float32)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities of logits; strictly increasing in each logit."""
        return calibrated(logits, self._calibration)

    def self_check(self) -> float:
        """Compare with the golden file.

        Returns:
            The largest difference in logits.

        Raises:
            BundleError: It is above the bundle's tolerance: this machine does not compute the model as it was measured.
        """
        rows = self.bundle.golden()
        expected = np.array([row["logits"] for row in rows], dtype=np.float32)
        found = self.logits([row["text"] for row in rows], [row.get("context") for row in rows])
        worst = float(np.abs(found - expected).max())
        if not worst <= self.bundle.meta.golden_tolerance:
            raise BundleError(
                "bundle_golden",
                f"{self.bundle.path}: logits differ from the golden file by {worst:.3f}, more than the tolerance "
                f"{self.bundle.meta.golden_tolerance}; check the ONNX Runtime version and CPU.",
            )
        return worst

    def _judge(
        self, texts: Sequence[str], contexts: Sequence[str | None] | None
    ) -> Iterator[tuple[list[Window], NDArray[np.float32]]]:
        check_texts(texts, contexts)
        bounds = list(_chunk_bounds(texts))

        def encoded(low: int, high: int) -> list[list[Window]]:
            return self.encode(texts[low:high], contexts[low:high] if contexts is not None else None)

        with ThreadPoolExecutor(1) as ahead:
            # While a chunk is judged the next one is encoded.
            pending = ahead.submit(encoded, *bounds[0]) if len(bounds) > 1 else None
            for here, following in zip_longest(bounds, bounds[1:]):
                chunk = pending.result() if pending else encoded(*here)
                pending = ahead.submit(encoded, *following) if following else None
                logits = self.engine.logits([window for windows in chunk for window in windows])
                at = 0
                for windows in chunk:
                    yield windows, logits[at : at + len(windows)]
                    at += len(windows)
