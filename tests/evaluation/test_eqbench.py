import json
import math
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from curation.errors import HeartwoodError
from heartwood.cli import app
from pipelines.evaluation.eqbench.questions import Questions, read_questions
from pipelines.evaluation.eqbench.rescore import rescore
from pipelines.evaluation.eqbench.run import EqbenchSettings, run_eqbench
from pipelines.evaluation.eqbench.scoring import (
    Answer,
    constant_score,
    item_score,
    parse,
    run_score,
    scaled,
)
from tests.tiny_model import build_tiny_base, write_pointer

EMOTIONS = ("Bored", "Glad", "Numb", "Wary")
REFERENCE = {"Bored": 0.0, "Glad": 7.0, "Numb": 2.0, "Wary": 5.0}


def prompt(number: int) -> str:
    skeleton = "\n".join(f"{e}: <score>" for e in EMOTIONS)
    return (
        f"Scene {number}.\n[End dialogue]\n\nAnn would feel...\n\nGive each a score from 0-10. Then critique your answer by"
        " thinking it through step by step. Finally, give your revised scores.\n\nUse this form:\n\nFirst pass scores:\n"
        f"{skeleton}\n\nCritique: <your critique here>\n\nRevised scores:\n{skeleton}\n\n[End of answer]\n\nZero is fine.\n"
    )


def question(number: int) -> dict[str, Any]:
    full: dict[str, Any] = {f"emotion{i}": e for i, e in enumerate(EMOTIONS, 1)}
    # The published file mixes numbers and text.
    full |= {f"emotion{i}_score": v if i % 2 else str(int(v)) for i, v in enumerate(REFERENCE.values(), 1)}
    return {"prompt": prompt(number), "reference_answer": {}, "reference_answer_fullscale": full}


@pytest.fixture(scope="module")
def questions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eqbench") / "questions.json"
    path.write_text(json.dumps({str(n): question(n) for n in range(1, 172)}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def asked(questions_file: Path) -> Questions:
    return read_questions(str(questions_file))


def said(*numbers: int) -> str:
    return "\n".join(f"{e}: {n}" for e, n in zip(EMOTIONS, numbers, strict=True))


def result(finals: dict[str, Any], answers: dict[str, tuple[str, Answer]]) -> dict[str, Any]:
    return {
        "benchmark_success": True,
        "eqbench_version": "v2",
        "model_path": "someone/some-model",
        **finals,
        "raw_results": {
            "1": {
                "raw_inference": {q: text for q, (text, _) in answers.items()},
                "respondent_answers": {
                    q: {"first_pass": a.first, "revised": a.revised} for q, (_, a) in answers.items()
                },
                "individual_scores": {q: {"first_pass_score": -999.0, "revised_score": None} for q in answers},
            }
        },
    }


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_curve_has_the_published_values() -> None:
    assert [scaled(d) for d in range(5)] == pytest.approx([0, 0.1729, 0.5406, 1.5046, 3.25], abs=1e-3)
    assert [scaled(d) for d in (5, 6, 10)] == [5, 6, 10]
    assert scaled(5, "curve") == pytest.approx(4.9954, abs=1e-4)
    assert scaled(6, "curve") == 6


@given(st.floats(0, 10), st.floats(0, 10))
def test_a_larger_difference_never_costs_less(a: float, b: float) -> None:
    low, high = sorted((a, b))
    # The published curve passes 5 just below it, by 0.005.
    assert scaled(low) <= scaled(high) + 1e-9


def test_an_item_is_scored_only_with_exactly_its_four_emotions() -> None:
    exact = {e: str(int(v)) for e, v in REFERENCE.items()}
    assert item_score(REFERENCE, exact) == 10
    assert item_score(REFERENCE, {**exact, "Confidence": "5"}) is None
    assert item_score(REFERENCE, {e: exact[e] for e in EMOTIONS[:3]}) is None
    assert item_score(REFERENCE, {**{e: exact[e] for e in EMOTIONS[:3]}, "wary": "5"}) is None
    assert item_score(REFERENCE, {**exact, "Glad": "100"}) == pytest.approx(10 - 0.7477 * 93)


def test_parsing_takes_the_last_of_equal_names_and_whole_numbers_only() -> None:
    assert parse("Glad: 3\nGlad:  8\nNumb: high\nWary:5\nBored: 2.9", revision=False).first == {
        "Glad": "8",
        "Bored": "2",
    }
    text = f"Glad: 9\nFirst pass scores:\n{said(0, 7, 2, 5)}\nCritique: no.\nRevised scores:\n{said(1, 1, 1, 1)}"
    both = parse(text, revision=True)
    assert both.first == {"Bored": "0", "Glad": "7", "Numb": "2", "Wary": "5"}
    assert set(both.revised.values()) == {"1"}
    assert parse(said(0, 7, 2, 5), revision=True) == Answer({}, {})


def test_the_revised_pass_counts_only_if_it_is_no_worse_and_covers_enough() -> None:
    references = {str(n): REFERENCE for n in range(40)}
    good = {e: str(int(v)) for e, v in REFERENCE.items()}
    poor = dict.fromkeys(EMOTIONS, "3")
    assert run_score(references, {q: Answer(poor, good) for q in references}).counted == "revised"
    assert run_score(references, {q: Answer(good, poor) for q in references}).counted == "first"
    mostly = {q: Answer(poor, good if int(q) < 37 else {}) for q in references}
    assert run_score(references, mostly).counted == "first"
    enough = {q: Answer(poor, good if int(q) < 38 else {}) for q in references}
    found = run_score(references, enough)
    assert (found.counted, found.final, found.parseable, found.se) == ("revised", 100.0, 38, 0.0)


def test_a_run_fails_below_five_sixths_parsed() -> None:
    references = {str(n): REFERENCE for n in range(171)}
    good = Answer({e: str(int(v)) for e, v in REFERENCE.items()}, {})
    kept = {str(n): good for n in range(143)}
    assert not run_score(references, kept).failed
    del kept["0"]
    assert run_score(references, kept).failed
    nothing = run_score(references, {})
    assert nothing.failed
    assert math.isnan(nothing.se)
    with pytest.raises(HeartwoodError, match="question '999'"):
        run_score(references, {"999": good})


def test_the_prompt_without_revision_asks_for_one_set_of_scores(asked: Questions) -> None:
    text = asked.items["1"].text(revision=False)
    for gone in ("critique", "Critique", "First pass", "Revised", "revised"):
        assert gone not in text
    assert text.count("Glad: <score>") == 1
    assert text.endswith("[End of answer]\n\nZero is fine.\n\nYour answer:\n")
    assert asked.items["1"].text(revision=True) == prompt(1)
    assert not asked.official
    assert asked.items["1"].reference == REFERENCE


def test_rescoring_uses_answers_and_never_recorded_item_scores(asked: Questions, tmp_path: Path) -> None:
    text = said(0, 7, 2, 0)
    answers = {str(n): (text, parse(text, False)) for n in range(1, 172)}
    # Wary: 5 away, which the two rules price differently.
    linear, curve = round(10 * (10 - 0.7477 * 5), 2), round(10 * (10 - 0.7477 * scaled(5, "curve")), 2)
    assert linear != curve
    path = write(tmp_path / "r.json", result({"benchmark_score": linear}, answers))
    found = rescore(path, asked)
    assert (found.recorded, found.recomputed, found.agrees) == (linear, linear, True)
    assert (found.parsed, found.parsed_same, found.revision) == (171, 171, False)
    other = rescore(path, asked, "curve")
    assert (other.recomputed, other.agrees) == (curve, False)


def test_an_answer_that_its_text_does_not_give_is_named(asked: Questions, tmp_path: Path) -> None:
    text = said(0, 7, 2, 5) + "\nConfidence: 9"
    kept = parse(said(0, 7, 2, 5), False)
    path = write(tmp_path / "r.json", result({"benchmark_score": 100.0}, {"7": (text, kept), "8": (text, kept)}))
    found = rescore(path, asked)
    assert found.agrees
    assert (found.parsed_same, found.parsed_otherwise) == (0, ["7", "8"])
    assert found.failed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a result"),
        ('{"eqbench_version": "v1"}', "EQ-Bench v1, not v2"),
        ('{"benchmark_score": 1, "benchmark_success": true, "raw_results": {}}', "no iteration"),
        (json.dumps(result({"benchmark_score": 1.0}, {"x": ("", Answer({"Glad": "?"}, {}))})), "not a result"),
        (json.dumps(result({"benchmark_score": 1.0}, {"x": ("", Answer({}, {}))})), "question 'x'"),
    ],
)
def test_a_bad_result_file_is_an_error_with_its_name(
    asked: Questions, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(HeartwoodError, match=rf"bad\.json: .*{message}"):
        rescore(path, asked)


def test_a_missing_final_never_agrees(asked: Questions, tmp_path: Path) -> None:
    text = said(0, 7, 2, 5)
    for recorded in (None, "FAILED", True):
        path = write(tmp_path / "r.json", result({"benchmark_score": recorded}, {"1": (text, parse(text, False))}))
        assert not rescore(path, asked).agrees
        assert rescore(path, asked).recorded is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "no form"}, "Critique"),
        ({"reference_answer_fullscale": {}}, "four emotions"),
        (
            {"reference_answer_fullscale": {**question(1)["reference_answer_fullscale"], "emotion2": "Bored"}},
            "four diff",
        ),
        (
            {"reference_answer_fullscale": {**question(1)["reference_answer_fullscale"], "emotion1_score": 11}},
            "0 to 10",
        ),
    ],
)
def test_a_bad_question_is_an_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = {str(n): question(n) for n in range(1, 172)}
    content["5"] |= change
    with pytest.raises(HeartwoodError, match=rf"question 5: .*{message}"):
        read_questions(str(write(tmp_path / "q.json", content)))


def test_another_number_of_questions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HeartwoodError, match="60 entries; EQ-Bench v2 has 171"):
        read_questions(str(write(tmp_path / "q.json", {str(n): question(n) for n in range(60)})))
    with pytest.raises(HeartwoodError, match="cannot be read"):
        read_questions(str(tmp_path / "none.json"))


def test_a_download_of_other_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: BytesIO(b"{}"))
    with pytest.raises(HeartwoodError, match="sha256 is 44136fa355b3"):
        read_questions("download")


def test_rescore_exits_1_if_any_final_differs(questions_file: Path, tmp_path: Path) -> None:
    text = said(0, 7, 2, 5)
    answers = {str(n): (text, parse(text, False)) for n in range(1, 172)}
    right = write(tmp_path / "right.json", result({"benchmark_score": 100.0}, answers))
    wrong = write(tmp_path / "wrong.json", result({"benchmark_score": 99.99}, answers))
    ask = ["eqbench", "rescore", "--questions", str(questions_file), "--json"]
    good = CliRunner().invoke(app, [*ask, str(right)])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["results"][0] | {"se": 0} == json.loads(good.stdout)["results"][0]
    bad = CliRunner().invoke(app, [*ask, str(right), str(wrong)])
    assert bad.exit_code == 1
    found = json.loads(bad.stdout)
    assert (found["files"], found["agree"]) == (2, 1)
    assert [(r["file"], r["recorded"], r["recomputed"]) for r in found["results"]] == [
        ("right.json", 100.0, 100.0),
        ("wrong.json", 99.99, 100.0),
    ]
    assert CliRunner().invoke(app, [*ask[:-1], str(right), str(wrong)]).exit_code == 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_pointer(build_tiny_base(folder / "base"), folder / "base.json")


SETTINGS = EqbenchSettings(max_new_tokens=2, context=256, quantisation="none", device="cpu", threads=1)


def few(asked: Questions, count: int) -> Questions:
    return Questions(dict(list(asked.items.items())[:count]), asked.sha256)


def test_a_model_that_cannot_answer_has_no_score(asked: Questions, tiny: Path, tmp_path: Path) -> None:
    short = Questions(
        {
            q: type(item)(item.prompt.replace("\n[End dialogue]\n\nAnn would feel...\n\n", ""), item.reference)
            for q, item in few(asked, 2).items.items()
        },
        asked.sha256,
    )
    found = run_eqbench(tiny, short, SETTINGS)
    assert list(found.texts) == ["1", "2"]
    summary = found.summary(short, "linear")
    assert (summary["final"], summary["se"], summary["parseable"], summary["failed"]) == (None, None, 0, True)
    assert summary["constant_3"] == constant_score(short.references).final
    assert run_eqbench(tiny, short, SETTINGS) == found
    path = write(tmp_path / "own.json", found.as_result_file(short, "tiny", "linear"))
    again = rescore(path, asked)
    assert (again.parsed, again.parsed_same) == (2, 2)


def test_questions_without_room_are_counted_and_none_with_room_is_an_error(asked: Questions, tiny: Path) -> None:
    with pytest.raises(HeartwoodError, match="no question fits"):
        run_eqbench(
            tiny, few(asked, 2), EqbenchSettings(context=40, max_new_tokens=8, quantisation="none", device="cpu")
        )
    with pytest.raises(HeartwoodError, match="leaves no room"):
        run_eqbench(tiny, few(asked, 2), EqbenchSettings(revision=True, quantisation="none", device="cpu"))


def test_only_unparsed_answers_are_asked_again_and_warmer(
    asked: Questions, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, float]] = []

    def scripted(_model: Any, _tokenizer: Any, encoded: Any, settings: Any) -> list[dict[str, Any]]:
        number = encoded[0][0]
        seen.append((number, settings.decoding, round(settings.temperature, 2)))
        good = number == "1" or (number == "2" and settings.decoding == "sample")
        return [{"text": said(0, 7, 2, 5) if good else "I would not know."}]

    monkeypatch.setattr("pipelines.evaluation.eqbench.run.generate", scripted)
    monkeypatch.setattr("pipelines.evaluation.eqbench.run._encode", lambda _t, items, *_: (dict.fromkeys(items), ["9"]))
    found = run_eqbench(tiny, few(asked, 3), EqbenchSettings(tries=3, device="cpu", quantisation="none"))
    assert [s for s in seen if s[1] == "greedy"] == [(n, "greedy", 0.7) for n in "123"]
    assert seen[3:] == [("2", "sample", 0.16), ("3", "sample", 0.16), ("3", "sample", 0.31)]
    assert found.tries == {"1": 1, "2": 2, "3": 3}
    summary = found.summary(few(asked, 3), "linear")
    assert (summary["final"], summary["parseable"], summary["failed"]) == (100.0, 2, True)
    assert (summary["more_than_one_try"], summary["too_long"]) == (2, 1)
    with pytest.raises(HeartwoodError, match="allowed: 1 to 5"):
        EqbenchSettings(tries=6)


@pytest.mark.real_data
def test_every_recorded_final_and_every_recorded_answer(real_data: Path) -> None:
    folder = real_data / "eqbench"
    asked = read_questions(str(folder / "questions_v2_171.json"))
    assert asked.official
    assert constant_score(asked.references).final == 38.86
    found = [rescore(path, asked) for path in sorted((folder / "results").glob("*.json"))]
    assert found
    assert [r.file for r in found if not r.agrees] == []
    assert [r.file for r in found if r.failed != r.recorded_failed] == []
    # tulu-2-dpo-70b prints a fifth pair, "Confidence:", which its own parser dropped.
    assert {r.file for r in found if r.parsed_otherwise} <= {r.file for r in found if "tulu-2-dpo-70b" in r.file}
    by_code = [rescore(path, asked, "curve") for path in sorted((folder / "results").glob("*.json"))]
    assert 0 < sum(r.agrees for r in by_code) < len(by_code)
