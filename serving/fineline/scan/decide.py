"""Stored scores to decisions under any policy or thresholds, without scoring again.

A decision needs no more than what a scan stores: probabilities rise with the logits, so the highest logit over the
windows gives the highest probability, and one place a label says which stretch of a document is meant.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fineline.bundle import Bundle, load_bundle
from fineline.calibration import calibrated
from fineline.errors import InputError
from fineline.policy import DEFAULT_POLICY, Action, get_policy
from fineline.scan.store import Store, read_scores

_RULE_KEY = b"fineline_rule"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What turned logits into decisions; stands beside them as ``decisions.json``.

    Attributes:
        name: Folder of the decisions.
        policy: Policy that gives the actions.
        actions: Action by label, in the bundle's order.
        thresholds: Lowest flagged probability by label.
        changed: Labels whose threshold is not the bundle's.
        model: ``name@version`` of the bundle.
        taxonomy: Version of the taxonomy.
    """

    name: str
    policy: str
    actions: dict[str, str]
    thresholds: dict[str, float]
    changed: tuple[str, ...]
    model: str
    taxonomy: str

    @property
    def digest(self) -> str:
        """sha256 of all of it, which every part of the decisions carries."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What ``decide`` did.

    Attributes:
        rule: The rule it applied.
        documents: Documents decided.
        actions: Documents by action.
        flagged: Documents by label.
    """

    rule: Rule
    documents: int
    actions: dict[str, int]
    flagged: dict[str, int]


def make_rule(
    bundle: Bundle,
    *,
    policy: str = DEFAULT_POLICY,
    thresholds: Mapping[str, float] | None = None,
    name: str | None = None,
) -> Rule:
    """A rule from a policy and thresholds that replace some of the bundle's.

    Raises:
        InputError: A label is unknown, a threshold is not between 0 and 1, or the name will not do.
        ConfigError: The policy is unknown.
    """
    chosen, own = bundle.policies[get_policy(policy).name], dict(thresholds or {})
    shipped = bundle.meta.thresholds[chosen.name]
    if unknown := set(own) - set(bundle.meta.labels):
        raise InputError("threshold_label", f"'{min(unknown)}' is no label of {bundle.model_id}: {', '.join(shipped)}.")
    if wrong := [label for label, value in own.items() if not 0 < value < 1]:
        raise InputError("threshold_value", f"The threshold of '{wrong[0]}' must lie between 0 and 1.")
    changed = tuple(label for label in bundle.meta.labels if own.get(label, shipped[label]) != shipped[label])
    if changed and name in (None, *bundle.meta.thresholds):
        raise InputError("decision_name", "Changed thresholds need a name of their own that no policy has; give one.")
    name = name or policy
    if not name.replace("-", "").replace("_", "").isalnum():
        raise InputError("decision_name", "The name of decisions may have letters, digits, '-' and '_' only.")
    return Rule(
        name=name,
        policy=policy,
        actions={label: str(chosen.action((label,))) for label in bundle.meta.labels},
        thresholds={label: own.get(label, shipped[label]) for label in bundle.meta.labels},
        changed=changed,
        model=bundle.model_id,
        taxonomy=bundle.meta.taxonomy,
    )


def decide(
    output: str,
    *,
    policy: str = DEFAULT_POLICY,
    thresholds: Mapping[str, float] | None = None,
    name: str | None = None,
    bundle: Path | None = None,
) -> Decided:
    """Decide every document of a finished scan and write the decisions to ``OUTPUT/decisions/<name>/``.

    Args:
        output: Output folder of the scan.
        policy: Policy that gives actions and thresholds.
        thresholds: Probabilities by label that replace the policy's.
        name: Name of the decisions; the policy's if not given, needed where thresholds are changed.
        bundle: The bundle that scored, for its calibration; the default one if not given.

    Raises:
        InputError: The folder holds no finished scan, the bundle is another one, or an argument is wrong.
    """
    store, loaded = Store(output), load_bundle(bundle)
    manifest = read_manifest(store)
    if manifest["bundle"]["digest"] != loaded.meta.digest:
        raise InputError(
            "decide_bundle",
            f"{output}: scored by another bundle, {manifest['bundle']['model']}; give that one, or scan again.",
        )
    rule = make_rule(loaded, policy=policy, thresholds=thresholds, name=name)
    labels, documents = loaded.meta.labels, 0
    actions, flagged = dict.fromkeys(map(str, Action), 0), dict.fromkeys(labels, 0)
    for number, scores in enumerate(read_scores(output)):
        table = decide_table(scores, loaded, rule)
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({_RULE_KEY: rule.digest}), buffer, compression="zstd")
        store.put(_part(rule.name, number), buffer.getvalue())
        documents += table.num_rows
        for counts, column in ((actions, table["action"]), (flagged, table["flagged"].combine_chunks().flatten())):
            for entry in column.value_counts().to_pylist():
                counts[entry["values"]] += entry["counts"]
    # Written last: decisions that another rule was about to replace do not pass for either's.
    text = json.dumps(asdict(rule), ensure_ascii=False, indent=1) + "\n"
    store.put(f"decisions/{rule.name}/decisions.json", text.encode())
    return Decided(rule=rule, documents=documents, actions=actions, flagged=flagged)


def read_manifest(store: Store) -> dict[str, Any]:
    """The manifest of a finished scan.

    Raises:
        InputError: There is none.
    """
    manifest = store.manifest()
    if manifest is None:
        raise InputError("output_missing", f"{store.output}: no scan here; give the output folder of 'fineline scan'.")
    if manifest.get("state") != "complete":
        raise InputError("output_incomplete", f"{store.output}: the scan is not finished; run it to its end first.")
    return manifest


def read_rule(store: Store, name: str) -> Rule:
    """The rule behind decisions.

    Raises:
        InputError: There are no whole decisions of that name.
    """
    content = store.get(f"decisions/{name}/decisions.json")
    if content is None:
        raise InputError(
            "decisions_missing", f"{store.output}: no decisions named '{name}'; run 'fineline scan decide' first."
        )
    entries = json.loads(content)
    return Rule(**(entries | {"changed": tuple(entries["changed"])}))


def read_decided(store: Store, rule: Rule) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Scores and decisions of each part, row by row the same documents.

    Raises:
        InputError: The decisions are not whole, or not of this rule and scan.
    """
    for number, scores in enumerate(read_scores(store.output)):
        content = store.get(_part(rule.name, number))
        table = pq.read_table(io.BytesIO(content)) if content is not None else None
        whole = table is not None and (table.schema.metadata or {}).get(_RULE_KEY) == rule.digest.encode()
        if table is None or not whole or not table["row"].equals(scores["row"]):
            raise InputError(
                "decisions_damaged",
                f"{store.output}: the decisions '{rule.name}' are not whole; run 'fineline scan decide' again.",
            )
        yield scores, table


def decide_table(scores: pa.Table, bundle: Bundle, rule: Rule) -> pa.Table:
    """Decisions of one part: ``file, row, flagged, action, start, end``.

    ``flagged`` is ordered as in a verdict, highest score first; ``start`` and ``end`` are the place of the window with
    the highest flagged score, null where nothing is flagged.
    """
    labels, count = bundle.meta.labels, scores.num_rows
    logits = scores["logits"].combine_chunks().flatten().to_numpy().reshape(count, len(labels))
    chances = calibrated(logits, [bundle.meta.calibration[label] for label in labels])
    hit = chances >= np.array([rule.thresholds[label] for label in labels])
    rows, columns = np.nonzero(hit)
    order = np.lexsort((columns, -chances[rows, columns], rows))
    columns = columns[order]
    offsets = np.concatenate([[0], np.cumsum(hit.sum(axis=1))])
    top = np.full(count, -1)
    some = hit.any(axis=1)
    top[some] = columns[offsets[:-1][some]]
    severity = list(map(str, Action))
    ranks = np.array([severity.index(rule.actions[label]) for label in labels])
    worst = np.where(hit, ranks, 0).max(axis=1)
    return pa.table(
        {
            "file": scores["file"],
            "row": scores["row"],
            "flagged": pa.ListArray.from_arrays(
                pa.array(offsets, pa.int32()), pa.array([labels[column] for column in columns], pa.string())
            ),
            "action": pa.array([severity[rank] for rank in worst], pa.string()),
            "start": _places(scores["starts"], top, np.zeros(count, dtype=np.int32)),
            "end": _places(scores["ends"], top, scores["characters"].to_numpy()),
        }
    )


def _places(column: pa.ChunkedArray, top: NDArray[np.int64], whole: NDArray[np.int32]) -> pa.Array:
    """The top label's entry of each row, or the whole text where there is one window; null where none is flagged."""
    lists = column.combine_chunks()
    offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
    many = (np.diff(offsets) > 0) & (top >= 0)
    places = whole.copy()
    places[many] = values[offsets[:-1][many] + top[many]]
    return pa.array(places, pa.int32(), mask=top < 0)


def _part(name: str, number: int) -> str:
    return f"decisions/{name}/part-{number:05d}.parquet"
