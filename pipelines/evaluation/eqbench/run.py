"""EQ-Bench v2 answered by a base or tuned model of this project, greedily, in the form of the recorded runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.eqbench.questions import Question, Questions
from pipelines.evaluation.eqbench.scoring import (
    BOUNDARIES,
    CONSTANT,
    Answer,
    Boundary,
    RunScore,
    constant_score,
    item_score,
    parse,
    run_score,
)
from pipelines.evaluation.respond import RespondSettings, generate
from pipelines.sft.base import BasePointer
from pipelines.sft.formatting import EncodedPrompt, TooLongError, encode_prompt
from pipelines.sft.hardware import choose
from pipelines.sft.model import load_model, quiet_libraries

NEW_TOKENS = {False: 60, True: 1000}
"""Tokens of one answer without and with revision, as in the benchmark."""

FIRST_TEMPERATURE = 0.01
STEP = 0.15
"""The benchmark's temperature, and how much each failed try adds. The first try here is greedy."""


@dataclass(frozen=True)
class EqbenchSettings:
    """How a model is asked. ``tries`` is 1 to 5; ``max_new_tokens`` and ``context`` None take the usual ones."""

    revision: bool = False
    tries: int = 1
    max_new_tokens: int | None = None
    context: int | None = None
    seed: int = 0
    quantisation: str = "nf4"
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.tries <= 5:
            raise HeartwoodError(f"--tries is {self.tries}, allowed: 1 to 5", hint="correct --tries")


@dataclass(frozen=True)
class EqbenchRun:
    """Raw texts and parsed answers by question, tries needed, and the questions that no prompt had room for."""

    texts: Mapping[str, str]
    answers: Mapping[str, Answer]
    tries: Mapping[str, int]
    too_long: Sequence[str]
    base_digest: str

    def scores(self, questions: Questions) -> dict[Boundary, RunScore]:
        """The run's score under both boundary rules."""
        return {boundary: run_score(questions.references, self.answers, boundary) for boundary in BOUNDARIES}

    def summary(self, questions: Questions, boundary: Boundary) -> dict[str, Any]:
        """Numbers alone, for people and ``--json``."""
        scores = self.scores(questions)
        score = scores[boundary]
        floor = constant_score(questions.references, boundary)
        nothing = score.parseable == 0
        return {
            "final": None if nothing else score.final,
            "se": None if score.parseable < 2 else round(score.se, 2),
            "boundary": boundary,
            "final_by_boundary": {b: None if nothing else s.final for b, s in scores.items()},
            "counted": score.counted,
            "parseable": score.parseable,
            "questions": len(questions.items),
            "failed": score.failed,
            "too_long": len(self.too_long),
            "more_than_one_try": sum(tries > 1 for tries in self.tries.values()),
            f"constant_{CONSTANT}": floor.final,
            "questions_sha256": questions.sha256,
            "questions_official": questions.official,
        }

    def as_result_file(self, questions: Questions, model: str, boundary: Boundary) -> dict[str, Any]:
        """The run in the form of the benchmark's result files, which ``heartwood eqbench rescore`` reads."""
        score = self.scores(questions)[boundary]
        return {
            "benchmark_score": score.final,
            "benchmark_success": not score.failed,
            "eqbench_version": "v2",
            "model_path": model,
            "base_digest": self.base_digest,
            "boundary": boundary,
            "n_questions_parseable": score.parseable,
            "n_questions_total": len(questions.items),
            "questions_sha256": questions.sha256,
            "total_iterations": 1,
            "raw_results": {
                "1": {
                    "raw_inference": dict(self.texts),
                    "respondent_answers": {
                        q: {"first_pass": a.first, "revised": a.revised} for q, a in self.answers.items()
                    },
                    "tries": dict(self.tries),
                    "too_long": list(self.too_long),
                }
            },
        }


def run_eqbench(
    model_path: Path,
    questions: Questions,
    settings: EqbenchSettings,
    *,
    base: BasePointer | None = None,
    root: Path = Path(),
) -> EqbenchRun:
    """Ask a model every question, one at a time, each a single user turn.

    The first try is greedy. With more tries, a question whose answer cannot be parsed is asked again by sampling at
    ``FIRST_TEMPERATURE + STEP`` more each time, seeded. A question that does not fit the context counts as not
    parseable and is named in ``too_long``.

    Raises:
        HeartwoodError: no question fits, or the model cannot be loaded.
    """
    hardware = choose(settings.device, settings.threads)
    model, tokenizer, pointer = load_model(model_path, hardware, settings.quantisation, base=base, root=root)
    new_tokens = settings.max_new_tokens or NEW_TOKENS[settings.revision]
    context = settings.context or int(model.config.max_position_embeddings)
    if context <= new_tokens:
        raise HeartwoodError(
            f"a context of {context} tokens leaves no room for a question beside {new_tokens} new tokens",
            hint="lower --max-new-tokens",
        )
    encoded, too_long = _encode(tokenizer, questions.items, settings.revision, context, new_tokens)
    if not encoded:
        raise HeartwoodError(
            f"no question fits: a context of {context} tokens less {new_tokens} new tokens is too short for each",
            hint="lower --max-new-tokens, or ask a model with a longer context",
        )
    greedy = RespondSettings(batch_size=1, context=context, max_new_tokens=new_tokens, seed=settings.seed)
    texts: dict[str, str] = {}
    answers: dict[str, Answer] = {}
    tries: dict[str, int] = {}
    for attempt, decoding in enumerate(_decodings(greedy, settings.tries), start=1):
        for number in [n for n in encoded if n not in texts or not _valid(questions.items[n], answers[n])]:
            row = generate(model, tokenizer, [(number, encoded[number])], decoding)[0]
            answer = parse(row["text"], settings.revision)
            # A failed further try keeps what an earlier one had.
            if number not in texts or _valid(questions.items[number], answer):
                texts[number], answers[number] = row["text"], answer
            tries[number] = attempt
    order = [n for n in questions.items if n in texts]
    return EqbenchRun(
        {n: texts[n] for n in order},
        {n: answers[n] for n in order},
        {n: tries[n] for n in order},
        too_long,
        pointer.digest,
    )


def _decodings(greedy: RespondSettings, tries: int) -> Iterator[RespondSettings]:
    yield greedy
    for attempt in range(1, tries):
        yield replace(
            greedy,
            decoding="sample",
            temperature=FIRST_TEMPERATURE + STEP * attempt,
            top_p=1.0,
            seed=greedy.seed + attempt,
        )


def _valid(question: Question, answer: Answer) -> bool:
    """Whether either pass names exactly the question's emotions."""
    return any(item_score(question.reference, part) is not None for part in (answer.first, answer.revised))


def _encode(
    tokenizer: Any, items: Mapping[str, Question], revision: bool, context: int, new_tokens: int
) -> tuple[dict[str, EncodedPrompt], list[str]]:
    encoded, too_long = {}, []
    with quiet_libraries():
        for number, question in items.items():
            messages = [{"role": "user", "content": question.text(revision)}]
            try:
                encoded[number] = encode_prompt(tokenizer, messages, context, new_tokens, where=f"question {number}")
            except TooLongError:
                too_long.append(number)
    return encoded, too_long
