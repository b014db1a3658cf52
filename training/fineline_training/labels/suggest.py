"""``fineline labels suggest``: of a pool, the rows worth labelling next, each standing for others like it."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from fineline import Classifier
from fineline.errors import DataError, InputError
from fineline.files import replacing, write_text
from fineline.policy import get_policy
from fineline.scan.documents import Document, InputFile, list_inputs
from fineline_training.labels.candidates import Candidate, Kept, Wanted, Why, gather, view_scorer
from fineline_training.labels.features import text_features
from fineline_training.labels.near import load_sketches
from fineline_training.labels.pool import LeftOut, Place, read_places, read_pool, text_key
from fineline_training.labels.votes import row_id
from fineline_training.leakage import load_digests

Vectors = NDArray[np.float32]


def unit_vectors(features: Vectors) -> Vectors:
    """Features around their mean, at length 1: the angle between two is how unlike the texts are to the model."""
    centred = features - features.mean(axis=0)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def unlike(vectors: Vectors, count: int) -> list[int]:
    """Rows that stand for all, by number: of each of ``count`` k-means clusters the one nearest to its centre.

    Rows at the rim, which a choice of the farthest would take, are mostly noise (Zhdanov 2019, and training/LOG.md).

    Args:
        vectors: Unit vectors, shape (rows, features), the best row first.
        count: Rows wanted; where the rows have fewer clusters, the best of the others are added.
    """
    distinct = np.sort(np.unique(vectors.round(4), axis=0, return_index=True)[1])
    if len(distinct) > count > 0:
        # One thread, because the order of its sums is then always the same.
        with threadpool_limits(1):
            clusters = KMeans(count, n_init=1, random_state=0).fit(vectors[distinct])
            distinct = distinct[np.unique(clusters.transform(vectors[distinct]).argmin(axis=0))]
    chosen = set(distinct.tolist())
    others = [row for row in range(len(vectors)) if row not in chosen]
    return [*sorted(chosen), *others][:count]


def choose(kept: Kept, wanted: Wanted, vectors: Mapping[Place, Vectors]) -> list[tuple[Why, Candidate]]:
    """Choose among the candidates; the sample fills what the other kinds leave open.

    Args:
        kept: Candidates, best first.
        wanted: How many of each kind.
        vectors: A unit vector for each place of a candidate that is not of the sample.
    """
    chosen: dict[int, tuple[Why, Candidate]] = {}

    def take(why: Why, candidates: Sequence[Candidate], count: int) -> None:
        free = [candidate for candidate in candidates if candidate.key not in chosen]
        if free and count:
            for row in unlike(np.stack([vectors[candidate.place] for candidate in free]), count):
                chosen[free[row].key] = why, free[row]

    for label, candidates in kept.uncertain.items():
        take(Why.UNCERTAIN, candidates, wanted.uncertain[label])
    take(Why.VIEWS, kept.views, wanted.views)
    for candidate in kept.sample:
        if len(chosen) < wanted.total:
            chosen.setdefault(candidate.key, (Why.SAMPLE, candidate))
    # By key, an order that has nothing to do with what the model thinks of a row.
    return [chosen[key] for key in sorted(chosen)]


def _rows(documents: Sequence[Document]) -> list[dict[str, str]]:
    """Rows of the output; an id that files of the pool share is replaced by one of the text's own."""
    ids = Counter(document.id for document in documents)
    rows = [
        {
            "id": document.id if document.id and ids[document.id] == 1 else row_id(document.text, document.context),
            "text": document.text,
            "context": document.context,
            "lang": document.lang,
            "source": document.source,
        }
        for document in documents
    ]
    return [{name: value for name, value in row.items() if value} for row in rows]


def _documents(files: Sequence[InputFile], candidates: Mapping[Place, Candidate], pool: str) -> dict[Place, Document]:
    documents = read_places(files, candidates)
    for place, candidate in candidates.items():
        found = documents.get(place)
        if found is None or text_key(found.text, found.context) != candidate.key:
            raise DataError("pool_changed", f"{pool}: a file changed while it was read; run the command again.")
    return documents


def _vectors(
    classifier: Classifier, kept: Kept, documents: Mapping[Place, Document], threads: int | None
) -> dict[Place, Vectors]:
    places = sorted({row.place for rows in (*kept.uncertain.values(), kept.views) for row in rows})
    if not places:
        return {}
    texts, contexts = [documents[place].text for place in places], [documents[place].context for place in places]
    features = text_features(classifier.bundle.path, texts, contexts, threads=threads)
    return dict(zip(places, unit_vectors(features), strict=True))


def suggest(
    pool: str,
    out: Path,
    *,
    classifier: Classifier,
    number: int = 500,
    labels: Sequence[str] = (),
    policy: str | None = None,
    labelled: Collection[int] = frozenset(),
    share: float = 1.0,
    threads: int | None = None,
    on_rows: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Pick the rows of a pool worth labelling; the same pool and model give the same rows.

    Texts go to ``out`` and nowhere else. ``<out>.manifest.json`` says for each id why it was picked; annotators should
    not read it before they have labelled, because it holds what the model thinks.

    Args:
        pool: File, folder or glob: JSONL, CSV, Parquet (``text``; ``context``, ``id``, ``lang``, ``source`` where they
            are) or text files.
        out: JSONL file to write.
        classifier: The model that the rows are to improve.
        number: Rows to pick; fewer where the pool holds fewer.
        labels: Labels that the model should be uncertain about; all of its own by default.
        policy: Policy whose thresholds count; the classifier's by default.
        labelled: Keys of rows that are labelled already (``labelled_keys``).
        share: Share of the pool that is judged, drawn evenly, for pools that would take too long.
        threads: Threads that look at the candidates again; all cores when ``None``.
        on_rows: Told the number of rows judged after each chunk.

    Returns:
        The manifest.

    Raises:
        InputError: A number is out of range, a label is unknown, or the pool cannot be read.
        ConfigError: The policy is unknown.
        DataError: Nothing in the pool may be suggested, or the pool changed while it was read.
    """
    watched, chosen_policy = tuple(dict.fromkeys(labels)) or classifier.labels, get_policy(policy or classifier.policy)
    if number < 1 or not 0 < share <= 1:
        raise InputError("suggest_number", "-n must be 1 or more, and the share above 0 and at most 1.")
    if unknown := set(watched) - set(classifier.labels):
        known = ", ".join(classifier.labels)
        raise InputError("suggest_label", f"The model has no label '{min(unknown)}'; it has {known}.")
    files = list_inputs(pool)
    if any(Path(file.url) == out.absolute() for file in files):
        raise InputError("suggest_out", f"{out}: is a file of the pool; name another --out.")
    wanted, counts = Wanted.split(number, watched), Counter[str]()
    left_out = LeftOut(evaluation=load_digests(), near=load_sketches(), labelled=labelled, share=share)
    kept = gather(
        read_pool(files, left_out, counts),
        view_scorer(classifier),
        wanted,
        labels=classifier.labels,
        thresholds=classifier.bundle.meta.thresholds[chosen_policy.name],
        counts=counts,
        on_rows=on_rows,
    )
    candidates = {row.place: row for rows in (*kept.uncertain.values(), kept.views, kept.sample) for row in rows}
    if not candidates:
        raise DataError("pool_empty", f"{pool}: holds no row that may be suggested: {dict(counts)}.")
    documents = _documents(files, candidates, pool)
    picks = choose(kept, wanted, _vectors(classifier, kept, documents, threads))
    rows = _rows([documents[candidate.place] for _, candidate in picks])
    with replacing(out) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    manifest = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": classifier.bundle.model_id,
        "policy": chosen_policy.name,
        "labels": list(watched),
        "share": share,
        "pool": [{"file": Path(file.url).name, "bytes": file.bytes} for file in files],
        "rows": dict(sorted(counts.items())),
        "picked": dict(sorted(Counter(str(why) for why, _ in picks).items())),
        "suggestions": [
            {
                "id": row["id"],
                "why": str(why),
                "label": candidate.label,
                "score": round(candidate.score, 4),
                "file": Path(files[candidate.place.file].url).name,
                "row": candidate.place.row + 1,
            }
            for row, (why, candidate) in zip(rows, picks, strict=True)
        ],
    }
    write_text(out.with_name(f"{out.name}.manifest.json"), json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    return manifest
