from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.text import fold
from pipelines.evaluation.gates import REASONS, gate, is_echo, is_repetition_loop, leaks
from pipelines.evaluation.language import is_other_language
from tests.people import replies

SYSTEM = "You are a kind and attentive listener."
USER = "My landlord gave us two weeks to leave and I have no idea where we will go."
PROMPT = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]

NORMAL = (
    "That is so little time, I'm sorry. Do you have anyone you could stay with for a while?",
    "Two weeks! How are the children taking it?",
    "I hear you. It must be frightening not to know where you will sleep next month.",
    "Oh no. No, no, no. That is not fair at all.",
    "I am listening; tell me more.",
    "Yes.",
    "You have no idea where to go, and only two weeks. That sounds very heavy.",
    "Ha ha, I wish I had a house for you. " + "It will take time, and there are people who can help with it. " * 2,
)

WORDS = st.lists(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8), min_size=4, max_size=30)


@pytest.mark.parametrize("reply", NORMAL)
def test_normal_replies_pass(reply: str) -> None:
    assert gate(PROMPT, reply, True) is None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("...", "empty"),
        ("♥ :)", "empty"),
        ("<|user|> I am sad", "template_tokens"),
        ("That is hard.</s>", "template_tokens"),
        ("I see [INST] go on [/INST]", "template_tokens"),
        ("That is hard. <|assis", "template_tokens"),
        ("Sure.\n### Response: I see", "template_tokens"),
        (USER, "echo"),
        (USER.upper().replace(".", "!!"), "echo"),
        (USER.replace("two weeks", "three weeks"), "echo"),
        ("i have no idea where", "echo"),
        ("You are a kind and attentive listener. What now?", "system_prompt_leak"),
        ("sorry sorry sorry sorry sorry sorry", "repetition_loop"),
        ("I am here for you. " * 4, "repetition_loop"),
        (
            "I understand you. I am so sorry. " + "What a day. I am so sorry. Yes. I am so sorry. " * 3,
            "repetition_loop",
        ),
        ("It is hard to leave a home so fast. " * 3, "repetition_loop"),
        ("No" + "o" * 20, "repetition_loop"),
        ("hahahahahahahahahahahahahahahahahahaha", "repetition_loop"),
        ("Es tut mir leid, das zu hören.", "other_language"),
        ("C'est vraiment difficile pour toi.", "other_language"),
        ("Siento mucho lo que te pasa.", "other_language"),
        ("Mi dispiace molto per quello che è successo.", "other_language"),
        ("Sinto muito pelo que aconteceu.", "other_language"),
        ("Dat klinkt heel erg moeilijk.", "other_language"),
        ("Bardzo mi przykro z tego powodu.", "other_language"),
        ("Bunu duyduğuma çok üzüldüm.", "other_language"),
        ("Мне очень жаль это слышать.", "other_language"),
        ("我很抱歉听到这个消息。", "other_language"),
        ("それは本当につらいですね。", "other_language"),
        ("أنا آسف جداً لسماع ذلك.", "other_language"),
    ],
)
def test_broken_replies_are_caught(reply: str, reason: str) -> None:
    assert gate(PROMPT, reply, True) == reason


def test_an_unfinished_reply_is_truncated() -> None:
    assert gate(PROMPT, NORMAL[0], False) == "truncated"


def test_hidden_special_tokens_are_template_tokens() -> None:
    assert gate(PROMPT, NORMAL[0], True, 1) == "template_tokens"
    assert gate(PROMPT, "", True, 1) == "empty"


def test_echo_looks_at_every_user_message_and_no_other() -> None:
    talk = [*PROMPT, {"role": "assistant", "content": NORMAL[0]}, {"role": "user", "content": "No, nobody at all."}]
    assert gate(talk, USER, True) == "echo"
    assert gate(talk, NORMAL[0], True) is None


def test_echo_has_its_boundary_at_the_ratio() -> None:
    assert is_echo("abcdefghij", "abcdefghij")
    assert not is_echo("abcdefghijxyz", "abcdefghijklmn")
    assert not is_echo("no idea where", USER)
    assert not is_echo("ave no idea whe", USER)


def test_a_short_system_prompt_cannot_leak() -> None:
    assert not leaks("Be kind to yourself.", "Be kind.")
    assert leaks("one two three four five six seven eight", "zero one two three four five six seven eight nine")
    assert not leaks("one two three four five six seven nine", "zero one two three four five six seven eight nine")


def test_a_refrain_in_a_long_text_is_no_loop() -> None:
    refrain = "and I miss you so "
    filler = (" ".join(f"word{i}x{j}" for j in range(40)) for i in range(6))
    assert not is_repetition_loop(refrain.join(filler))


SHORT = ("Ok.", "Oh no!", "Haha nice", "lol", "Hmm", "Aww", "Omg congrats", "Yes, Amsterdam.", "noooo waaaay", "Danke!")
COLLOQUIAL = (
    "sounds gud bro u ok tho?",
    "Thank you so much Juan Pablo Rodriguez Garcia",
    "Mi casa es su casa, as they say!",
    "Je ne sais quoi, as they say in France",
    "Amsterdam, Rotterdam, Utrecht, Groningen",
)


@pytest.mark.parametrize("reply", [*SHORT, *COLLOQUIAL])
def test_short_and_colloquial_replies_have_no_language_to_judge(reply: str) -> None:
    assert gate(PROMPT, reply, True) is None


def test_a_reply_in_the_users_own_language_passes_and_english_to_it_does_not() -> None:
    german = [{"role": "user", "content": "Mein Vermieter hat uns zwei Wochen gegeben, und ich weiß nicht, wohin."}]
    assert gate(german, "Das klingt wirklich schwer für dich.", True) is None
    assert gate(german, "That is so little time, I'm sorry to hear it.", True) == "other_language"
    indonesian = [{"role": "user", "content": "Saya sangat sedih karena anjing saya mati kemarin."}]
    assert gate(indonesian, "Saya turut sedih mendengar hal itu.", True) is None


def rate_of_other_language(pairs: list[tuple[str, str]]) -> float:
    return sum(is_other_language(reply, heard) for heard, reply in pairs) / len(pairs)


def test_no_reply_of_the_embedded_corpora_is_in_another_language(repo_root: Path, tmp_path: Path) -> None:
    pairs = replies(repo_root / "data" / "embedded", tmp_path)
    assert len(pairs) > 1000
    assert rate_of_other_language(pairs) == 0.0


@pytest.mark.real_data
@pytest.mark.slow
def test_hardly_a_real_reply_is_taken_for_another_language(real_data: Path, tmp_path: Path) -> None:
    pairs = replies(real_data, tmp_path)
    assert len(pairs) > 40_000
    assert rate_of_other_language(pairs) < 0.001


@given(st.text(), st.booleans())
def test_every_reply_has_one_known_outcome(reply: str, finished: bool) -> None:
    assert gate(PROMPT, reply, finished) in {None, *REASONS}


@given(st.text())
def test_a_reply_without_words_is_empty_and_no_other_is(reply: str) -> None:
    assert (gate(PROMPT, reply, True) == "empty") == (fold(reply) == "")


@given(st.text(min_size=1).filter(lambda text: fold(text) != ""))
def test_every_message_echoes_itself(text: str) -> None:
    assert is_echo(text, text)


@given(WORDS, st.data())
def test_every_stretch_of_a_message_is_an_echo(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 4))
    end = data.draw(st.integers(start + 4, len(words)))
    assert is_echo(" ".join(words[start:end]), " ".join(words))


@given(WORDS)
def test_repeating_a_phrase_is_a_loop(words: list[str]) -> None:
    assert is_repetition_loop(" ".join(words[:12] * 4))


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=80))
def test_distinct_words_are_no_loop(numbers: list[int]) -> None:
    assert not is_repetition_loop(" ".join(f"w{number}" for number in numbers))


@given(WORDS.filter(lambda words: len(words) >= 8))
def test_the_whole_system_prompt_leaks_wherever_it_stands(words: list[str]) -> None:
    assert leaks("Well. " + " ".join(words) + " Yes.", " ".join(words))
