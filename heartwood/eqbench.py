"""``heartwood eqbench``: ``rescore`` and ``run``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heartwood.options import Json, Threads, page, working

if TYPE_CHECKING:
    from pipelines.evaluation.eqbench.rescore import Rescored

QuestionsFile = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="The 171 questions of EQ-Bench v2; `download` takes the official file, checked by sha256."
    ),
]
BoundaryName = Annotated[
    Literal["linear", "curve"],
    typer.Option(help="A difference of 5 costs 5 (linear: as recorded scores do) or 4.9954 (curve: released code)."),
]


def rescore(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Recorded runs of EQ-Bench v2.")],
    questions: QuestionsFile,
    boundary: BoundaryName = "linear",
    as_json: Json = False,
) -> None:
    """Score recorded runs again from the answers they hold, and parse their raw text again.

    Exit code 0: every final agrees to two decimals. 1: one differs, or a file cannot be used. 2: usage. What a score is worth,
    and how the recorded ones were made, stands in docs/evaluation.md.
    """
    from pipelines.evaluation.eqbench.questions import read_questions
    from pipelines.evaluation.eqbench.rescore import rescore as rescore_file
    from pipelines.evaluation.eqbench.scoring import constant_score

    asked = read_questions(questions)
    found = [rescore_file(path, asked, boundary) for path in results]
    baseline = constant_score(asked.references, boundary).final
    agreeing = sum(r.agrees for r in found)
    if as_json:
        summary = {
            "boundary": boundary,
            "questions_sha256": asked.sha256,
            "questions_official": asked.official,
            "constant_3": baseline,
            "files": len(found),
            "agree": agreeing,
            "answers": sum(r.parsed for r in found),
            "answers_parsed_same": sum(r.parsed_same for r in found),
            "results": [r.as_dict() for r in found],
        }
        print(json.dumps(summary, indent=2))
    else:
        _print_rescored(found, baseline)
    raise typer.Exit(0 if agreeing == len(found) else 1)


def run(
    questions: QuestionsFile,
    model: Annotated[
        Path, typer.Option(metavar="MODEL", help="models/base.json, or an adapter such as models/sft-150.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Write answers and score to this file, in the benchmark's form.")
    ] = None,
    revision: Annotated[
        bool, typer.Option("--revision/--no-revision", help="Ask for a critique and revised scores, as v2.0 did.")
    ] = False,
    tries: Annotated[
        int, typer.Option(min=1, max=5, help="Ask again, warmer each time, if an answer cannot be parsed.")
    ] = 1,
    boundary: BoundaryName = "linear",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Default: 60, with revision 1000.", show_default=False)
    ] = None,
    quantisation: Annotated[Literal["nf4", "none"], typer.Option(help="How the weights are loaded.")] = "nf4",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of further tries; the first is greedy.")] = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Ask a model the 171 questions and score its answers, without any judge.

    A small model often fails to answer in the form asked for. Believe a score only if the run has not failed (at
    least 83.33 % of the answers parsed) and lies clearly above the constant baseline, which answers 3 every time.
    Exit code 0: run and scored; a run that failed by the rule says so. 1: the run could not be made. 2: usage.
    """
    from pipelines.evaluation.eqbench.questions import read_questions
    from pipelines.evaluation.eqbench.run import EqbenchSettings, run_eqbench

    asked = read_questions(questions)
    settings = EqbenchSettings(
        revision=revision,
        tries=tries,
        max_new_tokens=max_new_tokens,
        seed=seed,
        quantisation=quantisation,
        device=device,
        threads=threads,
    )
    with working(f"asking {model} {len(asked.items)} questions"):
        found = run_eqbench(model, asked, settings)
    summary = found.summary(asked, boundary)
    if output is not None:
        content = found.as_result_file(asked, model.as_posix(), boundary)
        output.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps({"model": model.as_posix(), "revision": revision, "tries": tries, **summary}, indent=2))
        return
    score = "no score" if summary["final"] is None else f"{summary['final']:.2f}"
    error = "" if summary["se"] is None else f" (standard error {summary['se']:.2f})"
    console = page()
    console.print(f"{model}: {score}{error}, {summary['parseable']} of {summary['questions']} answers parsed")
    if summary["too_long"]:
        console.print(f"{summary['too_long']} questions do not fit the context and count as not parsed")
    if summary["failed"]:
        console.print("FAILED: fewer than 83.33 % of the answers could be parsed; the score means nothing")
    console.print(f"answering 3 for every emotion scores {summary['constant_3']:.2f}; random answers about 0")


def _print_rescored(found: "list[Rescored]", baseline: float) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("model", "recorded", "again", "se", "parsed", "same text"):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="ellipsis", no_wrap=True)
    for r in found:
        table.add_row(
            r.model.rpartition("/")[2],
            "none" if r.recorded is None else f"{r.recorded:.2f}",
            f"{r.recomputed:.2f}{'' if r.agrees else ' !'}",
            "-" if r.se is None else f"{r.se:.2f}",
            f"{r.parseable:g}{' failed' if r.failed else ''}",
            f"{r.parsed_same}/{r.parsed}",
        )
    console = page()
    console.print(table)
    console.print(
        f"{sum(r.agrees for r in found)} of {len(found)} finals agree to two decimals;"
        f" {sum(r.parsed_same for r in found)} of {sum(r.parsed for r in found)} answers parse as recorded"
    )
    console.print(f"answering 3 for every emotion scores {baseline:.2f}")
