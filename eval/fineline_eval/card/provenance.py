"""Sections of a card on what the model is made of: labels, data with licences, training, artefact, speed."""

from typing import Any

from fineline.policy import load_policies
from fineline.taxonomy import load_taxonomy
from fineline_eval.report import Report, reading_manifest
from fineline_eval.summary import markdown_table, number, speed_line

_SOURCE_HEADER = ("source", "licence", "rows", "dropped", "weight", "attribution")
_PARITY_HEADER = ("language", "rows", "fp32, largest", "int8, mean", "int8, largest", "decisions n", "same flags, %")
_DATA = """\
The authored corpus is machine-assisted writing for this project, checked by the project's rules and gates; its
held-back fifth of frames shares its writers with the training part, so results on it are higher than on writers the
model has not seen.
Public sets know only some labels; the loss and the metrics skip what a row does not know. Training texts equal, after
normalisation, to a text of any evaluation suite were removed, and a gate proved that none was left."""
_WEIGHTS = """\
Rows are those of all splits. An epoch draws the weight's share of a source's training rows (above 1 they repeat); rows
that fill a slot of a frame with a name may have a weight of their own."""
_REPLAYED = """\
Rows are those of all splits. This model goes on from another: beside the team's rows it saw {rows} of the training rows
below, drawn evenly over sources, languages and labels."""
_ADDED = """\
Added by the team that trained this model: {labels}. No public set and no authored row knows them; what they flag is
measured on the team's own rows alone, where those were given."""
_DEFINED = """\
Defined anew by the team that trained this model: {labels}. The sets of this card judge them as Fineline defines
them."""
_TAUGHT = """\
The fit began with the mean of these models' weights, and learned the mean of their logits beside what its rows
know:"""
_PARITY_NOTE = """\
Measured when the bundle was made; calibration was fitted on the int8 artefact. Differences from the trained model in
logits, and share of held-back authored rows on which int8 and fp32 flag the same labels. In a batch, int8 logits
differ by at most {alone} from the same text alone."""


def entry(report: Report, *path: str) -> Any:
    """An entry of the bundle's manifest.

    Raises:
        ConfigError: The manifest lacks it.
    """
    value: Any = report.manifest
    with reading_manifest():
        for name in path:
            value = value[name]
    return value


def definitions(report: Report) -> list[str]:
    """Label definitions with their clauses, and the policies."""
    labels = [
        (f"`{label.id}`", label.name_en, label.name_zh, label.definition, "; ".join(label.clauses))
        for label in report.taxonomy
    ]
    absent = [f"`{label}`" for label in load_taxonomy().ids if label not in report.labels]
    added = [f"`{label.id}`" for label in report.taxonomy.own if label.id not in load_taxonomy().ids]
    defined = [f"`{label.id}`" for label in report.taxonomy.own if label.id in load_taxonomy().ids]
    policies = [(name, policy.title, policy.description) for name, policy in sorted(load_policies().items())]
    return [
        *([f"This bundle lacks {', '.join(absent)}: never flagged, and counted as missed."] if absent else []),
        *([_ADDED.format(labels=", ".join(added))] if added else []),
        *([_DEFINED.format(labels=", ".join(defined))] if defined else []),
        markdown_table(("id", "name", "名称", "definition", "clauses"), labels),
        "Policies:",
        markdown_table(("policy", "title", "what it does"), policies),
    ]


def data_sheet(report: Report) -> list[str]:
    """Sources with licences and counts, and how much of each was drawn."""
    shares = entry(report, "recipe", "data", "sources")
    replayed = entry(report, "data").get("replayed")
    rows = [
        (
            source["id"],
            source["licence"],
            f"{source['kept']:,}",
            f"{sum(source['dropped'].values()):,}",
            _weight(shares[source["id"]]) if replayed is None else "replayed",
            source["attribution"],
        )
        for source in entry(report, "data", "sources")
    ]
    drawn = _WEIGHTS if replayed is None else _REPLAYED.format(rows=f"{replayed:,}")
    return [_DATA, drawn, markdown_table(_SOURCE_HEADER, rows)]


def _weight(share: dict[str, Any]) -> str:
    """How much of a source's training rows an epoch draws, as the recipe has it."""
    weight, expansions, cap = share["weight"], share.get("expansions", 1), share.get("cap", 0)
    frames = f", frames {weight * expansions:g}" if expansions != 1 else ""
    return f"{weight:g}{frames}" + (f", at most {cap:,}" if cap else "")


def _parity_rows(parity: dict[str, Any]) -> list[tuple[str, ...]]:
    fp32 = {gap["lang"]: gap for gap in parity["fp32"]}
    decisions = {row["lang"]: row for row in parity["decisions"]}
    rows: list[tuple[str, ...]] = []
    for gap in parity["int8"]:
        lang = gap["lang"]
        same = decisions.get(lang)
        rows.append(
            (
                lang,
                str(gap["rows"]),
                f"{fp32[lang]['worst']:.5f}",
                f"{gap['mean']:.4f}",
                f"{gap['worst']:.4f}",
                f"{same['rows']:,}" if same else "-",
                number(same["same"]) if same else "-",
            )
        )
    return rows


def _served(report: Report) -> str:
    """What was compared when the bundle was evaluated."""
    found = report.served
    texts = sum(row.same.n for row in found.http)
    same = sum(row.same.n * row.same.value for row in found.http)
    if not found.http:
        return "Measured with this report: the golden file is NOT reproduced; do not serve this bundle here."
    return (
        f"Measured with this report: the golden file is reproduced within {found.golden_gap:.4f} (bound "
        f"{found.golden_tolerance}); over HTTP {same:.0f} of {texts} texts in {len(found.http)} languages get the "
        "labels that Python gives, in the same order."
    )


def _stations(stations: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {row['minutes']} min (peak {row['peak_memory_gib']} GiB)" for name, row in stations.items()
    )


def _teachers(report: Report) -> list[str]:
    """How the models were made that it began with the mean of, and learned from; nothing where there are none."""
    taught: Any = report.manifest.get("teachers", {})
    rows = [
        f"- `{name}`: recipe `{teacher['recipe']['name']}`, {teacher['recipe']['fit']['epochs']} epochs. Stations: "
        f"{_stations(teacher['stations'])}. Weights: sha256 `{teacher['weights'][:16]}`."
        for name, teacher in taught.items()
    ]
    return [_TAUGHT, "\n".join(rows)] if rows else []


def training(report: Report) -> list[str]:
    """Recipe, stations, backbone, environment, parity of the artefacts, speed."""
    stations = _stations(entry(report, "stations"))
    environment = ", ".join(f"{name} {version}" for name, version in entry(report, "environment").items())
    backbone = "; ".join(f"{key}: {value}" for key, value in entry(report, "backbone").items())
    parity = entry(report, "parity")
    return [
        f"Recipe `{entry(report, 'recipe', 'name')}`. Stations: {stations}.",
        *_teachers(report),
        f"Backbone: {backbone}.",
        f"Environment: {environment}.",
        _PARITY_NOTE.format(alone=parity["int8_alone_worst"]),
        markdown_table(_PARITY_HEADER, _parity_rows(parity)),
        _served(report),
        speed_line(report),
    ]
