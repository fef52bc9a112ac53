import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import HeartwoodError
from curation.jsonl import read_jsonl
from curation.records import Conversation, read_records, write_records
from curation.text import fold, words
from pipelines.evaluation.prompts import draw_prompts
from pipelines.layout import PROMPTS, SPLIT
from pipelines.settings.strict import read_params
from tests.curation.making import comment, numbered, talk
from tests.small_project import stage

SYSTEM = "You are kind."
LONG = "I lost the letter that my father wrote to me in"


def dev(count: int = 60) -> list[Conversation]:
    emotions = ("sad", "proud", "angry", "lonely")
    return numbered(
        talk(
            f"{LONG} {1900 + n}.",
            "Where did you keep it?",
            f"In a box, I think, number {n}, under my bed at home",
            emotions=(emotions[n % 4],),
        )
        for n in range(count)
    )


def draw(records: list[Conversation], count: int = 20, **changed: int) -> list[dict]:
    return draw_prompts(records, system=SYSTEM, **{"count": count, "seed": 0, "min_words": 9, **changed})


def test_prompts_are_whole_messages_one_a_conversation_and_stratified() -> None:
    found = draw(dev())
    assert len(found) == 20
    assert len({p["conversation"] for p in found}) == 20
    assert Counter(p["emotion"] for p in found) == dict.fromkeys(("sad", "proud", "angry", "lonely"), 5)
    for prompt in found:
        assert [m["role"] for m in prompt["messages"]] == ["system", "user"]
        assert prompt["messages"][0]["content"] == SYSTEM
        # The first turn, though a later one is long enough too.
        assert prompt["messages"][1]["content"].startswith(LONG)
        assert re.fullmatch(r"[0-9a-f]{24}", prompt["id"])


def test_the_thirty_of_the_first_evaluation_are_a_setting_and_stand_in_the_two_hundred() -> None:
    many = dev(300)
    thirty, all_of_them = draw(many, 30), draw(many, 200)
    assert (len(thirty), len(all_of_them)) == (30, 200)
    assert thirty == all_of_them[:30]


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_records_changes_nothing_and_the_seed_does(random: object, seed: int) -> None:
    records = dev()
    shuffled = records.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert draw(shuffled, seed=seed) == draw(records, seed=seed)
    assert draw(records, seed=seed) != draw(records, seed=seed + 1)


def test_texts_are_distinct_after_folding() -> None:
    same = [talk(f"{LONG} May!", "Oh.", group="a"), talk(f"{LONG.upper()} may", "Oh.", group="b")]
    assert len(draw(numbered(same))) == 1


def test_only_disclosures_in_dialogues_are_prompts() -> None:
    short, labelled = talk("I am sad.", "Oh."), comment(f"{LONG} May.", "sadness")
    found = draw(numbered([short, labelled, talk(f"{LONG} May.", "Oh.")]))
    assert [p["messages"][-1]["content"] for p in found] == [f"{LONG} May."]
    with pytest.raises(HeartwoodError, match="dev holds no user turn of at least 9 words"):
        draw(numbered([short, labelled]))


def test_a_message_of_another_text_or_system_is_another_prompt() -> None:
    ids = {
        draw_prompts(numbered([talk(text, "Oh.")]), count=1, seed=0, min_words=9, system=system)[0]["id"]
        for text in (f"{LONG} May.", f"{LONG} June.")
        for system in (SYSTEM, "", "Other.")
    }
    assert len(ids) == 6


def test_the_stage_says_when_dev_holds_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    SPLIT["dev"].parent.mkdir(parents=True)
    write_records([replace(c, split="dev") for c in dev(12)], SPLIT["dev"])
    params = read_params(repo_root / "params.yaml")
    stage("prompts", params)
    assert "prompts: 12, all that dev holds; prompts.count asks for 200" in capsys.readouterr().out
    assert len(read_jsonl(PROMPTS)) == 12
    params["prompts"]["count"] = 8
    stage("prompts", params)
    assert capsys.readouterr().out == ""
    known = {c.uid for c in read_records(SPLIT["dev"])}
    assert {p["conversation"] for p in read_jsonl(PROMPTS)} <= known


def test_prompts_have_enough_words() -> None:
    assert all(len(words(fold(p["messages"][-1]["content"]))) >= 9 for p in draw(dev()))
