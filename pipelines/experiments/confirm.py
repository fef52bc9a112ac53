"""The chosen mixture and its reference, once, on prompts from test; and the record that test was used.

The record is a file of ids, numbers and digests in ``reports/confirmed``, committed before any number is shown: what
git has once had counts as a use, also when the file is deleted later.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.errors import HeartwoodError
from curation.jsonl import write_jsonl
from curation.records import read_records
from pipelines.evaluation.compare import say_share
from pipelines.evaluation.prompts import draw_prompts
from pipelines.evaluation.score import score_model
from pipelines.experiments.mixture_table import say_p
from pipelines.experiments.mixtures import (
    HEAD,
    Contrast,
    ModelValues,
    TrainingRun,
    build_table,
    compare_values,
    judge_alone,
    read_runs,
)
from pipelines.experiments.runs import git, list_experiments, require_clean_commit, require_plain_name
from pipelines.experiments.scores import Scored
from pipelines.layout import MIXTURE, PROMPTS, SPLIT
from pipelines.provenance.lineage import write_json
from pipelines.provenance.outs import Outs
from pipelines.provenance.revision import Revision
from pipelines.settings.evaluation import PromptsParams, RespondParams
from pipelines.settings.mixture import ChatParams
from pipelines.settings.strict import parse_section

SCHEME = "confirm-v1"
CONFIRMED = Path("reports/confirmed")
REPLIES = Path(".heartwood/confirm")
JUDGE = "models/judge"


@dataclass(frozen=True)
class Choice:
    """What is to be confirmed: a model, the trainings of the chosen mixture and of its reference."""

    name: str
    model: str
    chosen: list[TrainingRun]
    reference: list[TrainingRun]


def choose(name: str, reference: str | None, model: str | None) -> Choice:
    """Find the trainings of the mixture that ``name`` is one of, and of the reference.

    Raises:
        HeartwoodError: no such run, it cannot be compared, it is of the reference's mixture, or no such model.
    """
    runs, left_out = read_runs([])
    by_name = {run.name: run for run in runs}
    table = build_table(runs, left_out, reference=reference)
    row = next((r for r in table.rows if name in r.runs), None)
    if row is None:
        why = table.left_out.get(name)
        raise HeartwoodError(
            f"{name!r} is left out: {why}" if why else f"no finished experiment is called {name!r}",
            hint="see `heartwood mixtures` for those that there are",
        )
    first = table.rows[0]
    if row is first:
        raise HeartwoodError(
            f"{name!r} is a run of the reference itself ({', '.join(first.runs)})",
            hint="name another mixture, or another reference with --reference",
        )
    models = list(first.cells)
    if model is not None and model not in models:
        raise HeartwoodError(
            f"no tuned model is called {model!r}; there are {', '.join(models)}", hint="correct --model"
        )
    return Choice(name, model or models[-1], [by_name[n] for n in row.runs], [by_name[n] for n in first.runs])


def uses() -> list[str]:
    """The records that git has ever had, on any branch, tag or experiment, by name."""
    listed = git("log", "--all", "--format=", "--name-only", "--diff-filter=A", "--", f"{CONFIRMED.as_posix()}/*.json")
    return sorted({Path(line).stem for line in listed.stdout.splitlines() if line})


def read_record(name: str) -> dict[str, Any] | None:
    """The record of that name in the workspace, or None."""
    path = CONFIRMED / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_confirmed() -> list[dict[str, Any]]:
    """All records in the workspace, by the order of use."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CONFIRMED.glob("*.json"))]
    return sorted(found, key=lambda r: (r["use"], r["name"]))


def confirm(name: str, *, reference: str | None, model: str | None, again: bool, seed: int = 0) -> dict[str, Any]:
    """Score the chosen mixture and its reference on prompts from test, commit the record, and return it.

    A choice that has a record is not scored again: the record is what is returned.

    Args:
        again: go on although test has been used before.
        seed: of the sign-flip tests.

    Raises:
        HeartwoodError: uncommitted changes, nobody to commit as, a test that has been used, data or models that are
            not in the cache, or what `choose` raises.
    """
    require_plain_name(name)
    if name == HEAD:
        raise HeartwoodError(
            "HEAD names another commit as soon as the use of test is committed",
            hint="give it a name that stays: dvc exp run --temp -n NAME, then heartwood confirm NAME",
        )
    if (known := read_record(name)) is not None:
        _require_same_run(known, name)
        return known
    require_clean_commit()
    if git("var", "GIT_COMMITTER_IDENT").returncode:
        raise HeartwoodError(
            "git does not know who commits here", hint="git config user.name and user.email: the use is committed"
        )
    before = uses()
    if before and not again:
        raise HeartwoodError(
            f"test has been used {_times(len(before))} already ({', '.join(before)}): a choice among results on test is"
            " no result either",
            hint="keep to what was confirmed; --again uses test once more, and the record says that it was not fresh",
        )
    choice = choose(name, reference, model)
    test_md5 = _one_test(choice)
    first = choice.chosen[0]
    prompts = _test_prompts(first)
    results = _score_all(choice, prompts)
    record = _record(choice, results, prompts, test_md5, len(before) + 1, seed)
    paths = [CONFIRMED / f"{name}.json", CONFIRMED / f"{name}.ratings.jsonl"]
    write_json(paths[0], record)
    write_jsonl([{"run": run, **row} for run, (scored, _) in results.items() for row in scored.ratings], paths[1])
    _commit(paths, f"Test used for {choice.model} of {name} against {choice.reference[0].name} (use {record['use']})")
    return record


def _require_same_run(record: Mapping[str, Any], name: str) -> None:
    """Raise if the name now stands for another run than the one on record."""
    now = {e.commit for e in list_experiments() if e.name == name}
    then = next(run["commit"] for run in record["chosen"]["runs"] if run["name"] == name)
    if now and then not in now:
        raise HeartwoodError(
            f"{name!r} was confirmed as commit {then[:12]}, and is now {min(now)[:12]}",
            hint="rename the experiment (dvc exp rename), then confirm that with --again",
        )


def _revision(run: TrainingRun) -> Outs:
    return Outs(Revision(run.name, run.commit))


def _one_test(choice: Choice) -> str:
    path = SPLIT["test"].as_posix()
    found = {_revision(run).md5(path) for run in (*choice.chosen, *choice.reference)}
    if len(found) != 1:
        raise HeartwoodError(
            f"the runs have {len(found)} different test splits ({path})", hint="run them again on one commit"
        )
    return found.pop()


def _test_prompts(run: TrainingRun) -> list[dict[str, Any]]:
    """Prompts from test as those from dev are drawn, by the params of the run."""
    params = parse_section(PromptsParams, run.params["prompts"], "prompts")
    return draw_prompts(
        read_records(_revision(run).file(SPLIT["test"].as_posix())),
        count=params.count,
        seed=params.seed,
        min_words=params.min_words,
        system=parse_section(ChatParams, run.params["chat"], "chat").system,
    )


def _score_all(choice: Choice, prompts: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Scored, str]]:
    """Score and adapter digest of every training, by run."""
    from pipelines.evaluation.judges.loading import load_judge
    from pipelines.evaluation.respond import RespondSettings, respond

    found: dict[str, tuple[Scored, str]] = {}
    with tempfile.TemporaryDirectory(prefix="heartwood-confirm-") as scratch:
        judge_folder = Path(scratch) / "judge"
        _revision(choice.chosen[0]).copy(JUDGE, judge_folder)
        judge = load_judge(judge_folder)
        runs = {run.name: run for run in (*choice.chosen, *choice.reference)}
        adapters = {name: Path(scratch) / str(number) / choice.model for number, name in enumerate(runs)}
        # All that could be missing is missed before the first reply.
        for name, folder in adapters.items():
            _revision(runs[name]).copy(f"models/{choice.model}", folder)
        for name, folder in adapters.items():
            params = parse_section(RespondParams, runs[name].params["respond"], "respond")
            replies = respond(folder, prompts, RespondSettings(**params.model_dump()))
            write_jsonl(replies, REPLIES / choice.name / f"{name}.jsonl")
            result = score_model(prompts, replies, judge)
            adapter = _revision(runs[name]).md5(f"models/{choice.model}")
            found[name] = (Scored(result.summary, result.rows), adapter)
    return found


def _record(
    choice: Choice,
    results: Mapping[str, tuple[Scored, str]],
    prompts: Sequence[Mapping[str, Any]],
    test_md5: str,
    use: int,
    seed: int,
) -> dict[str, Any]:
    def side(runs: Sequence[TrainingRun]) -> dict[str, Any]:
        return {
            "mixture": runs[0].requested,
            "runs": [
                {
                    "name": run.name,
                    "commit": run.commit,
                    "training_seed": run.seeds[0],
                    "draw_seed": run.seeds[1],
                    "adapter": results[run.name][1],
                    "mixture_md5": _revision(run).md5(MIXTURE.as_posix()),
                    "dev": run.scores[choice.model].summary["index"],
                    "test": results[run.name][0].summary["index"],
                    "test_degenerate_rate": results[run.name][0].summary["degenerate_rate"],
                    "test_stock_opening_rate": results[run.name][0].summary["stock_opening_rate"],
                }
                for run in runs
            ],
        }

    def contrast(scored: Mapping[str, Scored]) -> Contrast:
        a, b = (
            ModelValues([scored[r.name] for r in runs], [r.seeds[0] for r in runs])
            for runs in (choice.reference, choice.chosen)
        )
        return judge_alone(compare_values(a, b, seed))

    listing = "".join(json.dumps(p, sort_keys=True, ensure_ascii=False) for p in prompts)
    return {
        "scheme": SCHEME,
        "name": choice.name,
        "use": use,
        "model": choice.model,
        "chosen": side(choice.chosen),
        "reference": side(choice.reference),
        "prompts": {
            "count": len(prompts),
            "sha256": hashlib.sha256(listing.encode()).hexdigest(),
            "test_md5": test_md5,
            "dev_prompts_md5": _revision(choice.chosen[0]).md5(PROMPTS.as_posix()),
        },
        "judge": choice.chosen[0].scores[choice.model].summary["judge"],
        "on_dev": asdict(contrast({r.name: r.scores[choice.model] for r in (*choice.chosen, *choice.reference)})),
        "on_test": asdict(contrast({name: scored for name, (scored, _) in results.items()})),
    }


def _commit(paths: Sequence[Path], message: str) -> None:
    names = [path.as_posix() for path in paths]
    for command in (("add", "--", *names), ("commit", "-q", "-m", message, "--", *names)):
        done = git(*command)
        if done.returncode:
            for path in paths:
                path.unlink(missing_ok=True)
            git("rm", "-q", "--cached", "--ignore-unmatch", "--", *names)
            raise HeartwoodError(
                f"the use of test could not be committed, so its numbers are not shown: {done.stderr.strip()}",
                hint="mend git, then confirm again",
            )


def print_confirmed(console: Console, record: Mapping[str, Any]) -> None:
    """Print both numbers of one record."""
    console.print(sentence(record))
    for side in ("chosen", "reference"):
        shares = ", ".join(f"{n} {100 * s:.1f} %" for n, s in record[side]["mixture"].items() if s)
        console.print(f"{side}: {shares}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "seed", "index on dev", "on test", "degen.", "stock"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for side in ("chosen", "reference"):
        for run in record[side]["runs"]:
            table.add_row(
                run["name"],
                str(run["training_seed"]),
                f"{run['dev']:.3f}",
                f"{run['test']:.3f}",
                f"{100 * run['test_degenerate_rate']:.1f} %",
                say_share(run.get("test_stock_opening_rate")),
            )
    console.print(table)
    console.print(f"{record['prompts']['count']} prompts from test, judge {record['judge']}; degen. and stock on test")


def sentence(record: Mapping[str, Any]) -> str:
    """A record in words."""
    said = []
    for where in ("dev", "test"):
        c = record[f"on_{where}"]
        rose = ["its degenerate rate rose"] if c["degenerate_rate_rose"] else []
        notes = "; ".join([*rose, *([c["scope"]] if c["scope"] != "mixtures" else [])])
        about = f" ({notes})" if notes else ""
        said.append(
            f"on {where} {c['difference']:+.3f} (95 % interval {c['low']:+.3f} to {c['high']:+.3f}, p {say_p(c['p'])}),"
            f" {c['outcome']}{about}"
        )
    fresh = "" if record["use"] == 1 else f"; test had been used {_times(record['use'] - 1)} before"
    against = record["reference"]["runs"][0]["name"]
    return f"{record['name']} against {against}, {record['model']}: {said[0]}; {said[1]}{fresh}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
