"""Verdicts on text that is still being written, at a cost that is linear in its length.

What came so far is judged at the end of a sentence, and now and then where none ends, each time from the start of the
*open window*: the last of the model's windows, which the text has not filled yet. It is judged at the end of a sentence
only once it has grown by ``_SENTENCE_SHARE`` of what was read since it was at the last one, and elsewhere by
``_OPEN_SHARE``; so all judgements together read at most ``1 + 1/share`` times the text for each of the two, and once
more at the end, whatever the text is.

An event tells that a label was flagged. It is provisional: the verdict at the end is that on the whole text.
"""

import io
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from fineline.classifier import Classifier, Verdict, check_texts
from fineline.errors import InputError
from fineline.policy import Action, Policy, get_policy

MAX_CHARACTERS = 1_000_000
DEBOUNCE = 2

_SENTENCE_SHARE, _SENTENCE_LEAST = 1 / 16, 4
"""Growth after which the end of a sentence is judged: since the last one that was, as a share of the judged part of the
open window, and in characters."""

_OPEN_SHARE, _OPEN_LEAST = 1 / 4, 32
"""The same where no sentence ends, since the last judgement of any kind."""

_SENTENCE_END = re.compile(r"[!?…\n\r\u2028\u2029。！？｡؟۔।॥།။።។]|\.[\"'”’»)\]]{0,3}(?=\s)")
_LOOK_BACK = 4
"""Longest end of a sentence that the next character may complete."""


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """A label was flagged in a text that is still being written. All places are in characters of that text.

    Attributes:
        label: The label; no label has two events.
        score: Its calibrated probability.
        action: What the policy asks for by all labels that have had an event.
        start: Start of the window that first showed it.
        end: End of that window then.
        since: Place up to which the text had been judged before without showing it.
        at: Length of the text when the event was made.
    """

    label: str
    score: float
    action: Action
    start: int
    end: int
    since: int
    at: int

    @property
    def delay(self) -> int:
        """Characters that had come after the end of the window that first showed the label."""
        return self.at - self.end

    def as_dict(self) -> dict[str, Any]:
        """Plain data with a rounded score, for JSON."""
        return {
            "label": self.label,
            "score": round(self.score, 6),
            "action": str(self.action),
            "start": self.start,
            "end": self.end,
            "since": self.since,
            "at": self.at,
            "delay": self.delay,
        }


class Stretch(NamedTuple):
    """What is to be judged next.

    Attributes:
        text: The text from the start of the open window.
        start: Its place in the whole text.
        complete: Whether it ends with a sentence.
    """

    text: str
    start: int
    complete: bool


class _Sighting(NamedTuple):
    start: int
    end: int
    since: int
    times: int


class TextStream:
    """A text that grows: says what of it to judge, and makes events of the verdicts; it runs no model itself.

    Args:
        debounce: Judgements in a row that must flag a label before it counts, where the text breaks off in the middle
            of a sentence; at the end of one, or of a window, a single judgement is enough.
        max_characters: Longest text; its characters are kept until the end, and little else.
    """

    def __init__(self, *, debounce: int = DEBOUNCE, max_characters: int = MAX_CHARACTERS) -> None:
        self._debounce = debounce
        self._most = max_characters
        self._finished: list[str] = []
        self._window = io.StringIO()
        self._window_start = 0
        self._judged = self._judged_sentence = 0
        self._sentence_end = 0
        self._last = ""
        self._sightings: dict[str, _Sighting] = {}
        self._announced: list[str] = []
        self.length = 0

    @property
    def text(self) -> str:
        """All that came so far."""
        return "".join([*self._finished, self._window.getvalue()])

    @property
    def judged(self) -> int:
        """Characters that have been judged."""
        return self._judged

    def add(self, delta: str) -> None:
        """Take the next characters.

        Raises:
            InputError: They are no string, or the text becomes too long; nothing is taken then.
        """
        if not isinstance(delta, str):
            raise InputError("input_type", "A delta must be a string.")
        if self.length + len(delta) > self._most:
            raise InputError("stream_too_long", f"The text is longer than {self._most} characters; end the stream.")
        self._window.write(delta)
        seen = self._last + delta
        for match in _SENTENCE_END.finditer(seen):
            self._sentence_end = max(self._sentence_end, self.length - len(self._last) + match.end())
        self._last = seen[-_LOOK_BACK:]
        self.length += len(delta)

    def due(self) -> Stretch | None:
        """What to judge now, if anything; its verdict goes to ``settle`` before this is asked again."""
        read = self._judged - self._window_start
        ended = self._sentence_end - self._judged_sentence >= max(_SENTENCE_LEAST, _SENTENCE_SHARE * read)
        if ended and self._sentence_end > self._judged:
            end = self._sentence_end
        elif self.length - self._judged >= max(_OPEN_LEAST, _OPEN_SHARE * read):
            end = self.length
        else:
            return None
        text = self._window.getvalue()[: end - self._window_start]
        return Stretch(text, self._window_start, end == self._sentence_end)

    def settle(self, stretch: Stretch, verdict: Verdict, policy: Policy) -> list[StreamEvent]:
        """Take the verdict on a stretch.

        Args:
            stretch: What was judged.
            verdict: On it.
            policy: The verdict's policy, as the bundle that judged has it.

        Returns:
            An event for each label that it flags for good and that had none.
        """
        found = self._find(stretch, verdict)
        self._judged = stretch.start + len(stretch.text)
        if stretch.complete:
            self._judged_sentence = self._judged
        self._finish(verdict.windows[-1].start)
        sure = [x for x, (sighting, settled) in found.items() if settled or sighting.times >= self._debounce]
        self._announced += sure
        self._sightings = {x: sighting for x, (sighting, _) in found.items() if x not in sure}
        action = policy.action(tuple(self._announced))
        return [
            StreamEvent(
                label=label,
                score=verdict.scores[label],
                action=action,
                start=found[label][0].start,
                end=found[label][0].end,
                since=found[label][0].since,
                at=self.length,
            )
            for label in sure
        ]

    def _find(self, stretch: Stretch, verdict: Verdict) -> dict[str, tuple[_Sighting, bool]]:
        """Flagged labels without an event: where each was first seen, and whether the text it stands in is complete."""
        found = {}
        for label in verdict.flagged:
            if label in self._announced:
                continue
            level = verdict.thresholds[label]
            number, window = next((n, w) for n, w in enumerate(verdict.windows) if w.scores[label] >= level)
            known = self._sightings.get(label)
            sighting = _Sighting(
                *(known[:3] if known else (stretch.start + window.start, stretch.start + window.end, self._judged)),
                times=known.times + 1 if known else 1,
            )
            found[label] = sighting, stretch.complete or number < len(verdict.windows) - 1
        return found

    def _finish(self, size: int) -> None:
        """Close the windows in front of the open one."""
        if not size:
            return
        text = self._window.getvalue()
        self._finished.append(text[:size])
        self._window = io.StringIO()
        self._window.write(text[size:])
        self._window_start += size


class StreamGuard:
    """Judges a text while it is written; for one text and one thread.

    Args:
        classifier: The model.
        context: What the text answers, read and not judged.
        policy: Policy; the classifier's when ``None``.
        debounce: As for ``TextStream``.
        max_characters: As for ``TextStream``.

    Raises:
        ConfigError: The policy is unknown.
        InputError: The context is no string.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        context: str | None = None,
        policy: str | None = None,
        debounce: int = DEBOUNCE,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        self._classifier = classifier
        self._context = context
        self._policy = get_policy(policy or classifier.policy).name
        self._read = context_end(classifier, context)
        self._stream = TextStream(debounce=debounce, max_characters=max_characters)
        self._verdict: Verdict | None = None

    @property
    def judged(self) -> int:
        """Characters that have been judged: what stands before may be shown to a reader."""
        return self._stream.judged

    def feed(self, delta: str) -> list[StreamEvent]:
        """Take the next characters, any number of them.

        Returns:
            Events, for each label at most one in the life of the stream.

        Raises:
            InputError: They are no string, the text becomes too long, or the stream is closed.
        """
        if self._verdict:
            raise InputError("stream_closed", "The stream is closed; start another.")
        self._stream.add(delta)
        events = []
        while stretch := self._stream.due():
            verdict = self._judge(stretch.text, self._read)
            events += self._stream.settle(stretch, verdict, self._classifier.bundle.policies[self._policy])
        return events

    def close(self) -> Verdict:
        """End the text.

        Returns:
            The verdict on the whole, exactly that of ``Classifier.classify``; it may lack a label that had an event,
            and hold one that had none.
        """
        if self._verdict is None:
            self._verdict = self._judge(self._stream.text, self._context)
        return self._verdict

    def _judge(self, text: str, context: str | None) -> Verdict:
        return self._classifier.classify([text], [context], policy=self._policy)[0]


def context_end(classifier: Classifier, context: str | None) -> str | None:
    """The part of a context that a window has room for and little more, so that a long one is not read every time.

    Raises:
        InputError: The context is no string.
    """
    check_texts([""], [context])
    if context is None:
        return None
    # Any window but the last is full, and a full one holds more tokens than the model reads of a context.
    windows = classifier.encode([context])[0]
    return context[windows[-2].start :] if len(windows) > 1 else context
