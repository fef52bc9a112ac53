"""A project whose every text is hostile, as the stages would have left it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from curation.jsonl import write_jsonl
from curation.ledger import Removal, write_ledger
from curation.records import Conversation, Origin, Turn, identify, write_records
from pipelines.provenance.verify import Fault, ScoreVerdict
from tests.small_project import small_reports

OVERRIDE = "\u202e"
HOSTILE = [
    "<script>window.hacked=1</script>",
    '<img src=x onerror="window.hacked=2">',
    '"><svg onload=window.hacked=3>',
    "</script><script>window.hacked=4</script>",
    "<!--<script>",
    '<a href="javascript:window.hacked=5">press</a> [press](javascript:window.hacked=6)',
    "</style><style>body{display:none}</style>",
    "' onmouseover='window.hacked=7' x='",
    "{{ 7 * 7 }}{% raw %}{{ site }}",
    f"pay{OVERRIDE}gnp.exe\u200b\u2066hidden\u2069 \u0007",
    "&lt;b&gt;&amp;amp; \\u003cscript\\u003e `${window.hacked=8}`",
    "שלום <b>עולם</b> مرحبا",
]
SOURCE = '<b onclick="window.hacked=9">one</b>'
LABEL = "<i>sad</i>\u202d"
MODELS = ("base", "sft-100")
VERDICTS = [
    ScoreVerdict("base", 2.0, checked=40),
    ScoreVerdict(
        "sft-100",
        3.0,
        faults=[Fault("broken", "score@base", HOSTILE[0], f"{HOSTILE[1]} is not {HOSTILE[9]}")],
        checked=41,
    ),
]


def text(number: int, *more: str) -> str:
    return " ".join([HOSTILE[number % len(HOSTILE)], f"row {number}", *more])


def conversation(number: int, split: str, *more: str) -> Conversation:
    turns = (Turn("user", text(number, *more)), Turn("assistant", text(number + 1, *more)))
    return Conversation(SOURCE, "dialogue", f"g{number}", split, turns, situation=text(number + 2), emotions=(LABEL,))


def build(folder: Path, pairs: int = 30) -> Path:
    """Write reports, outs, params and a lock; ``pairs`` leaks and as many duplicates."""
    held_out = [conversation(n, "dev") for n in range(pairs)]
    train = [conversation(n, "train", f"unlike word{n}") for n in range(pairs)]
    rows = [(c, Origin("f", n, n)) for n, c in enumerate([*held_out, *train, *_copies(train)])]
    known = {(c.split, c.group): c for c, _ in identify(rows)}
    dev = [known["dev", f"g{n}"] for n in range(pairs)]
    kept = [known["train", f"g{n}"] for n in range(pairs)]
    copies = [known["train", f"copy{n}"] for n in range(pairs)]
    for name, records in (("train", [*kept, *copies]), ("dev", dev), ("test", [])):
        write_records(records, folder / f"data/split/{name}.parquet")
    write_records(kept, folder / "data/dedup/train.parquet")
    _ledgers(folder, dev, kept, copies)
    _models(folder)
    _reports(folder, pairs)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["git", "init", "-q", "-b", "main"], [*git, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def _copies(train: list[Conversation]) -> list[Conversation]:
    return [
        Conversation(c.source, c.task, f"copy{n}", "train", c.turns, situation=c.situation, emotions=("other",))
        for n, c in enumerate(train)
    ]


def _ledgers(folder: Path, dev: list[Conversation], kept: list[Conversation], copies: list[Conversation]) -> None:
    rules = ("dedup-exact-v1", "dedup-near-v1", "dedup-semantic-v1")
    duplicates = [
        Removal(c, rules[n % 3], {}, kept[n].uid, 1.0 if n % 3 == 0 else 0.9 - n / 200, HOSTILE[n % len(HOSTILE)])
        for n, c in enumerate(copies)
    ]
    leaks = [Removal(c, "leakage-contained-v1", {}, dev[n].uid, 0.8 + n / 200, "detail") for n, c in enumerate(kept)]
    for name, removals in (("split", []), ("dedup", duplicates), ("leakage", leaks)):
        write_ledger(removals, folder / f"data/ledger/{name}.parquet")
    close = [
        {"rule": "leakage-semantic-v1", "score": 0.84, "flagged": False}
        | {"uid": kept[0].uid, "text": text(0), "other_uid": dev[0].uid, "other_text": text(1)}
    ]
    write_jsonl(close, folder / "data/review/leakage.jsonl")
    write_jsonl([], folder / "data/review/dedup.jsonl")


def _models(folder: Path) -> None:
    prompts = [
        {
            "id": f"p{n}",
            "conversation": f"c{n}",
            "source": SOURCE,
            "emotion": LABEL if n % 2 else "joy",
            "messages": [
                {"role": "system", "content": "kind"},
                {"role": "user", "content": text(n, "needle" * (n == 7))},
            ],
        }
        for n in range(24)
    ]
    write_jsonl(prompts, folder / "data/prompts.jsonl")
    for place, model in enumerate(MODELS):
        replies = [{"prompt_id": p["id"], "text": text(n + place), "finished": True} for n, p in enumerate(prompts)]
        write_jsonl(replies, folder / f"data/responses/{model}.jsonl")
        rated = {"emotional_reactions": 0.5, "interpretations": 0.5, "explorations": 0.5}
        ratings = [
            {"prompt_id": p["id"], "status": "degenerate", "reason": "echo", "index": 1.0}
            if n == 3
            else {"prompt_id": p["id"], "status": "rated", "index": 1.5 + n / 20 * (place or -0.5) + 1, **rated}
            for n, p in enumerate(prompts)
        ]
        write_jsonl(ratings, folder / f"reports/eq/{model}.ratings.jsonl")
        score = {"index": 2.0 + place, "se": 0.1, "ci_low": 1.9, "ci_high": 2.1 + place, "degenerate_rate": 0.04}
        score |= {"stock_opening_rate": 0.04 + 0.6 * place}
        score |= {**rated, "n": 24, "mean_words": 9.0, "judge": text(0), "mixture": "none", "prompts": "p"}
        detail = {"by_source": {SOURCE: {"index": 2.0, "n": 24}}, "degenerate_by_reason": {"echo": 1}, "inputs": {}}
        dump(folder / f"reports/eq/{model}.json", score)
        dump(folder / f"reports/eq/{model}.detail.json", detail)


STOCK = {
    "stock_opening_rate_from": 0.04,
    "stock_opening_rate_to": 0.64,
    "stock_opening_index_to": 2.4,
    "stock_opening_others_to": 1.8,
}


def contrast(verdict: str, difference: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    found = {"from": "base", "to": "sft-100", "difference": difference, "low": low, "high": high, "verdict": verdict}
    rest = {"n": 24, "up": 10, "down": 12, "same": 2, "mde": 0.3, "p_holm": 0.2, "degenerate_rate_rose": False}
    return {**found, **rest, "sentence": "", **more}


def _reports(folder: Path, pairs: int) -> None:
    named = json.loads(json.dumps(small_reports()).replace('"one"', json.dumps(SOURCE)))
    for name, report in named.items():
        dump(folder / f"reports/{name}.json", report)
    share = {SOURCE: 1.0}
    dump(
        folder / "reports/mixture.json",
        named["mixture"]
        | {"requested": share, "realised": share, "labels": {SOURCE: {LABEL: 3, HOSTILE[0]: 1}}, "strategies": {}}
        | {"settings": {"unit": HOSTILE[1]}, "unit": "examples"},
    )
    suite = {"success": True, "expectations": [], "rows": 4, "warnings": 0}
    dump(folder / "reports/check.json", named["check"] | {"residual_leaks": 0, "suite": suite})
    failed = {
        "success": False,
        "description": text(3),
        "expectation": "e",
        "severity": "critical",
        "unexpected_rows": 2,
    }
    dump(folder / "reports/validation.json", {text(1): {**suite, "success": False, "expectations": [failed]}})
    dump(folder / "reports/comparison.json", {"contrasts": [contrast("inconclusive", 0.02, -0.2, 0.24, **STOCK)]})
    curve = [{"step": n, "loss": 5.0 - n / 10, "learning_rate": 0.001, "tokens": 9} for n in range(1, 20)]
    dev = [{"step": n, "dev_loss": 5.0} for n in (0, 10, 20)]
    summary = {"verdict": "overfitting", "evidence": text(6), "best_step": 10, "rise": 0.123456, "device": text(7)}
    for name, report in (("sft-100", curve), ("sft-100.dev", dev), ("sft-100.summary", summary)):
        dump(folder / f"reports/training/{name}.json", report)
    write_jsonl([{"uid": "u", "prompt": text(4), "reply": text(8)}], folder / "models/sft-100/samples.jsonl")
    agreement = {"qwk": 0.6, "qwk_low": 0.5, "qwk_high": 0.7}
    invariance = {"pass_rate": {HOSTILE[2]: 0.5}, "failed": [HOSTILE[2]], "cases": 12}
    dump(
        folder / "reports/judge.json",
        {"label": "exploratory", "id": text(2), "agreement": {LABEL: agreement}, "invariance": invariance},
    )
    dump(folder / "models/judge_head/card.json", {"method": text(5), "limits": HOSTILE, "digest": "d"})
    params = {"models": {m: f"models/{m}" for m in MODELS}, "checkpoints": {"sft-100": {"steps": 20, "parent": "x"}}}
    dump(folder / "params.yaml", params)
    stage = {"deps": [{"path": HOSTILE[0], "md5": "0" * 32}], "outs": [{"path": HOSTILE[1], "md5": "1" * 32}]}
    dump(folder / "dvc.lock", {"schema": "2.0", "stages": {"score@base": stage}})


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
