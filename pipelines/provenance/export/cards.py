"""The dataset card and the model cards of a release, with the front matter that the hub reads.

A card depends on the release's facts alone, so that whoever checks a release can render it again and compare. A change
of what these functions write needs another ``SCHEME``.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from pipelines.evaluation.compare import say_share
from pipelines.evaluation.ratings import MECHANISMS
from pipelines.layout import BASE, DEV_EXAMPLES, MIXTURE, PROMPTS
from pipelines.provenance.export.facts import VERIFIED, WEIGHTS, Adapter, Facts
from pipelines.provenance.export.licences import JUDGE, RollUp
from pipelines.provenance.export.statement import PREDICATE_TYPE
from pipelines.provenance.lineage import input_md5

SCHEME = "cards-v2"
_LABELS_SHOWN = 12


def dataset_card(facts: Facts) -> str:
    """``README.md`` of the release: what the data holds, its terms, how it was made, what was measured."""
    front = {
        "license": facts.licence.hub_id,
        **_named(facts.licence),
        "language": ["en"],
        "pretty_name": facts.about.name,
        "task_categories": ["text-generation"],
        "tags": ["empathy", "croissant", "heartwood"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": MIXTURE.as_posix()},
                    {"split": "validation", "path": DEV_EXAMPLES.as_posix()},
                ],
            },
            {"config_name": "prompts", "data_files": [{"split": "validation", "path": PROMPTS.as_posix()}]},
        ],
    }
    body = [
        f"# {facts.about.name}",
        *_warning(facts),
        "A mixture for fine-tuning chat models to be empathetic, with the held-out examples and the prompts that models"
        " are scored on. Duplicates, and train records that repeat text of dev or test, are removed.",
        "## Licences",
        *_licences(facts.licence),
        "## What it contains",
        _table(
            ("file", "rows", "sha256", *facts.sources),
            [
                (f"`{path}`", f"{f.rows:,}", f"`{facts.digests[path].sha256}`", *_counts(f.by_source, facts.sources))
                for path, f in facts.data.items()
            ],
        ),
        *_mixture(facts.reports.get("mixture")),
        *_labels(facts.reports.get("mixture")),
        "An example has `prompt` and `completion` (chat messages), `uid`, `source`, `task` and `conversation`; a prompt"
        " has `id`, `messages`, `source` and `emotion`. `croissant.json` describes every column.",
        "## How it was made",
        *_gates(facts),
        "## Scores",
        *_scores(facts, list(facts.scores)),
        "## Limits",
        *_bullets(_limits(facts)),
        "## Provenance",
        *_provenance(facts),
        "## Cite",
        *(
            [f"```bibtex\n{chr(10).join(cited)}\n```"]
            if (cited := _citations(facts.licence))
            else ["No source names a paper."]
        ),
    ]
    return _card(front, body)


def model_card(facts: Facts, model: str) -> str:
    """``README.md`` of one adapter: base, data, terms, scores."""
    adapter, score = facts.adapters[model], facts.scores[model]
    metrics = [
        {"type": "index", "name": "empathy index (1 to 5)", "value": score["index"]},
        {"type": "degenerate_rate", "name": "degenerate replies", "value": score["degenerate_rate"]},
    ]
    front = {
        "license": adapter.licence.hub_id,
        **_named(adapter.licence),
        # The hub takes it for the name of a model of its own, which a folder is not.
        **({"base_model": adapter.base} if adapter.base_revision else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "language": ["en"],
        "tags": ["empathy", "lora", "heartwood"],
        "model-index": [
            {
                "name": model,
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {"name": "heartwood prompts", "type": PROMPTS.as_posix()},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }
    mixture = input_md5(adapter.lineage, MIXTURE.as_posix())
    same = mixture == facts.digests[MIXTURE.as_posix()].md5
    trained = adapter.consumed
    body = [
        f"# {model} of {facts.about.name}",
        *_warning(facts),
        f"A LoRA adapter for `{adapter.base}`, trained on {'the mixture of this release' if same else 'another mixture'}"
        f" (md5 `{mixture}`).",
        "## Licences",
        *_licences(adapter.licence),
        "## Training",
        *_table_of(
            {
                "weights": f"`{WEIGHTS}`, sha256 `{facts.digests[f'{adapter.path}/{WEIGHTS}'].sha256}`",
                "base": _base(facts, adapter),
                "stage": str(adapter.lineage.get("stage", "")),
                "goes on from": str((adapter.lineage.get("parent") or {}).get("path", "the base")),
                "rows trained on": f"{trained['rows']:,} ({_pairs(trained['rows_by_source'])})" if trained else "",
                "epochs": _pairs(trained["epochs_by_source"]) if trained else "",
                "hardware": _pairs(adapter.lineage.get("hardware") or {}),
                "packages": _pairs(adapter.lineage.get("packages") or {}),
            }
        ),
        "## Scores",
        *_scores(facts, [m for m in facts.scores if m == model or m not in facts.adapters]),
        "## Limits",
        *_bullets(_limits(facts)),
        "It is no substitute for help by people, and not safe to put before a person in distress.",
        "## Provenance",
        *_provenance(facts),
    ]
    return _card(front, body)


def _card(front: Mapping[str, Any], body: Sequence[str]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(dict(front), text)
    return f"---\n{text.getvalue()}---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def _named(licence: RollUp) -> dict[str, str]:
    """The hub's keys for terms that are none of its identifiers."""
    if licence.hub_id != "other":
        return {}
    return {"license_name": "see-licences-below", "license_link": "README.md"}


def _warning(facts: Facts) -> list[str]:
    """What a reader must know before all else about a release whose scores are not verified."""
    if facts.verified:
        return []
    lines = ["> **Not verified.** When this was made, `heartwood verify` did not confirm every score:"]
    for model, checked in facts.checked.items():
        if checked.verdict != VERIFIED:
            lines.append(
                f"> - {model}: {checked.verdict}" + (f" ({_cell(checked.faults[0])})" if checked.faults else "")
            )
    return ["\n".join(lines)]


def _licences(licence: RollUp) -> list[str]:
    rows = [
        (
            w.title or w.name,
            f"[{w.licence.id}]({w.licence.url})" if w.licence.url else w.licence.id,
            "; ".join(w.licence.terms()),
            w.basis,
        )
        for w in licence.works
    ]
    return [
        f"**{'other' if licence.hub_id == 'other' else licence.licence.id}**",
        *_bullets(licence.sentences()),
        _table(("rests on", "licence", "terms", "known from"), rows),
        f"Scores: {JUDGE}",
    ]


def _mixture(receipt: Mapping[str, Any] | None) -> list[str]:
    if receipt is None:
        return []
    shown = [k for k in ("requested", "realised", "rows", "available", "repeats") if isinstance(receipt.get(k), dict)]
    names = sorted({n for key in shown for n in receipt[key]})
    rows = [(name, *(str(receipt[key].get(name, 0)) for key in shown)) for name in names]
    return [
        f"The mixture's shares are shares of its {receipt.get('unit', 'examples')}:",
        _table(("source", *shown), rows),
    ]


def _labels(receipt: Mapping[str, Any] | None) -> list[str]:
    lines = []
    for source, labels in sorted(((receipt or {}).get("labels") or {}).items()):
        if labels:
            ordered = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
            more = f", and {len(ordered) - _LABELS_SHOWN} more" if len(ordered) > _LABELS_SHOWN else ""
            listed = ", ".join(f"{_cell(n)} {c}" for n, c in ordered[:_LABELS_SHOWN])
            lines.append(f"{source}: {listed}{more}")
    return ["Labels in the mixture (`reports/mixture.json` has them all):", *_bullets(lines)] if lines else []


def _gates(facts: Facts) -> list[str]:
    reports = facts.reports
    rows = []
    if "records" in reports:
        quarantined = sum(r.get("raw_rows_quarantined", 0) for r in reports["records"].values())
        rows.append(("records", f"{quarantined:,} raw rows quarantined", "rows in = kept + quarantined"))
    if "split" in reports:
        rows.append(("split", f"{reports['split'].get('removed', 0):,} records removed", "no group in two splits"))
    if "dedup" in reports:
        rows.append(("dedup", _rules(reports["dedup"]), "every removed row names a surviving one"))
    if "leakage" in reports:
        recall = reports["leakage"].get("recall") or {}
        found = ", ".join(f"{kind} {r['recall']:.3f}" for kind, r in sorted(recall.items()))
        rows.append(("leakage", _rules(reports["leakage"]), f"recall of planted leaks: {found}"))
    if "validation" in reports:
        failed = sum(not e["success"] for s in reports["validation"].values() for e in _expectations(s))
        rows.append(("validate", f"{failed} expectations failed", "Great Expectations; a critical one stops the run"))
    if "check" in reports:
        left = reports["check"].get("residual_leaks", 0)
        rows.append(("check", f"{left} leaks left in the mixture", "training starts at 0 only"))
    absent = [n for n in ("records", "split", "dedup", "leakage", "validation", "check") if n not in reports]
    said = [f"Not in this revision: {', '.join(absent)}."] if absent else []
    return [*([_table(("stage", "result", "gate"), rows)] if rows else []), *said]


def _expectations(suite: Any) -> list[Mapping[str, Any]]:
    return list(suite.get("expectations") or []) if isinstance(suite, dict) else []


def _rules(report: Mapping[str, Any]) -> str:
    removed: dict[str, int] = {}
    for rules in (report.get("removed_by_source_and_rule") or {}).values():
        for rule, count in rules.items():
            removed[rule] = removed.get(rule, 0) + count
    return f"{sum(removed.values()):,} records removed" + (
        f" ({_pairs(dict(sorted(removed.items())))})" if removed else ""
    )


def _scores(facts: Facts, models: Iterable[str]) -> list[str]:
    shown = list(models)
    rows = []
    for model in shown:
        score, checked = facts.scores[model], facts.checked.get(model)
        reasons = facts.details[model].get("degenerate_by_reason") or {}
        rows.append(
            (
                model,
                f"{score['index']:.3f}",
                f"{score['ci_low']:.3f} to {score['ci_high']:.3f}",
                *(f"{score[m]:.2f}" if m in score else "" for m in MECHANISMS),
                f"{100 * score['degenerate_rate']:.1f} %" + (f" ({_pairs(reasons)})" if reasons else ""),
                say_share(score.get("stock_opening_rate")),
                str(score["n"]),
                checked.verdict if checked else "not checked",
            )
        )
    judge = facts.reports.get("judge") or {}
    agreement = [
        f"{name} {a['qwk']:.3f} ({a['qwk_low']:.3f} to {a['qwk_high']:.3f})"
        for name, a in sorted((judge.get("agreement") or {}).items())
        if isinstance(a, dict) and {"qwk", "qwk_low", "qwk_high"} <= set(a)
    ]
    compared = (facts.reports.get("comparison") or {}).get("contrasts", [])
    contrasts = [c["sentence"] for c in compared if {c["from"], c["to"]} <= set(shown)]
    head = (
        "model",
        "index",
        "95 % interval",
        "reactions",
        "interpretations",
        "explorations",
        "degenerate",
        "stock",
        "n",
        "verdict",
    )
    return [
        _table(head, rows),
        f"Judge: `{facts.scores[shown[0]]['judge']}`. The index runs from 1 to 5 (a degenerate reply: 1); the three"
        " mechanisms from 0 to 2. Nobody rated their sum: it is no 5-point rubric of empathy. Stock: the share of replies"
        " that begin with the model's commonest three words.",
        f"The judge's agreement with people (quadratic-weighted kappa): {'; '.join(agreement)}." if agreement else "",
        *_bullets(contrasts),
        "The column verdict is what `heartwood verify` said when this was made.",
    ]


def _limits(facts: Facts) -> list[str]:
    found = [
        "Written in English by few kinds of people: the texts carry their tastes and biases.",
        "Contact details are masked by patterns; what patterns miss is still there.",
        "The index counts what a small judge sees in words. It says nothing about safety, truth or clinical quality.",
    ]
    recall = ((facts.reports.get("leakage") or {}).get("recall") or {}).get("paraphrased")
    if recall:
        found.append(
            f"Leaks that are paraphrases are mostly not found: {recall['found']} of {recall['planted']} planted ones were."
        )
    if any("exploratory" in str(s.get("judge")) for s in facts.scores.values()):
        found.append("The judge is exploratory: it fails checks that a judge must pass (`reports/judge.json`).")
    return found


def _provenance(facts: Facts) -> list[str]:
    edited = ", with changes that were not committed" if facts.origin.edited else ""
    return [
        f"Made from commit `{facts.origin.commit}` ({facts.origin.date}){edited}. The statement beside the dataset card"
        f" (in-toto Statement v1, `{PREDICATE_TYPE}`) holds the sha256 of every file, the chain of stages with the"
        " digests of what each read and wrote, the params and the scores. `heartwood verify FOLDER` checks all of it"
        " without the repository.",
    ]


def _citations(licence: RollUp) -> list[str]:
    return [w.bibtex for w in licence.works if w.bibtex]


def _base(facts: Facts, adapter: Adapter) -> str:
    at = f" at `{adapter.base_revision}`" if adapter.base_revision else ""
    digest = facts.digest(BASE.as_posix())
    return f"`{adapter.base}`{at}" + (f", pointer `{BASE}` sha256 `{digest.sha256}`" if digest else "")


def _counts(counts: Mapping[str, int], names: Iterable[str]) -> list[str]:
    return [f"{counts.get(name, 0):,}" for name in names]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items())


def _bullets(lines: Iterable[str]) -> list[str]:
    text = "\n".join(f"- {line}" for line in lines)
    return [text] if text else []


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _table_of(values: Mapping[str, str]) -> list[str]:
    return [_table(("", ""), [(k, v) for k, v in values.items() if v])]
