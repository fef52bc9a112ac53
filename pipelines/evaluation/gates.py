"""Deterministic gates that a reply passes before any judge sees it.

A gated reply is *degenerate*: it scores the lowest index, and the share of such replies is a headline of its own.
Judges alone do not notice broken replies: in the run that this project grows from, ten of thirty replies were
empty, echoes or leaked prompts, and their mean rating was 3.9 of 5 (``reference/eval.md``, section 0).

Everything but the language compares text under ``fold-v1``: lower case, every ``[^\\w\\s]`` a space, whitespace
collapsed.
A change of any constant or rule below is a new ``GATES_VERSION``.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from curation.text import fold
from pipelines.evaluation.language import is_other_language

GATES_VERSION = "gates-v2"

REASONS = (
    "empty",
    "template_tokens",
    "echo",
    "system_prompt_leak",
    "repetition_loop",
    "other_language",
    "truncated",
)
"""Every reason that `gate` can return, in the order in which it looks for them."""

ECHO_SIMILARITY = 0.85
"""A reply is an echo above this ``difflib`` ratio (0..1, over characters) with any user message."""

ECHO_CONTAINED_WORDS = 4
"""A reply of at least so many words that stands whole inside a user message is an echo."""

LEAK_WORDS = 8
"""A reply leaks the system prompt from so many consecutive shared words (all of its words, if it has fewer)."""

LEAK_MIN_WORDS = 4
"""A system prompt of fewer words is too common a phrase to call its repetition a leak."""

LOOP_WORD_REPEATS = 6
"""One word so many times in a row is a loop."""

LOOP_PHRASE_WORDS = (2, 12)
"""Shortest and longest phrase, in words, looked for back to back."""

LOOP_PHRASE_REPEATS = 4
"""One phrase so many times in a row is a loop."""

LOOP_GRAM_WORDS = 4
"""Length in words of the n-grams counted wherever they stand."""

LOOP_GRAM_REPEATS = 5
"""One such n-gram so many times, anywhere in the reply, is a loop ..."""

LOOP_GRAM_SPACING = 24
"""... unless it is spread more thinly than once in so many words, as in a long human text with a refrain."""

LOOP_DISTINCT_WORDS = 24
"""A reply of at least so many words is also tested for the share of distinct word trigrams."""

LOOP_DISTINCT_RATIO = 0.5
"""Fewer distinct trigrams than this share of all trigrams is a loop."""

LOOP_CHARACTER_REPEATS = 16
"""A unit of one to four word characters so many times in a row, without a space, is a loop."""

_TEMPLATE_TOKEN = re.compile(
    r"<\|\s*\w"
    r"|</?s>"
    r"|<</?SYS>>"
    r"|\[/?(?:INST|SYSTEM|USER|ASSISTANT|PAD|UNK|CLS|SEP|BOS|EOS)\]"
    r"|</?(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>"
    r"|^\s*###\s*(?:instruction|response|input|human|user|assistant|system)\b\s*:?",
    re.IGNORECASE | re.MULTILINE,
)
_CHARACTER_LOOP = re.compile(rf"(\w{{1,4}}?)\1{{{LOOP_CHARACTER_REPEATS - 1},}}")


def is_echo(reply: str, message: str) -> bool:
    """Whether ``reply`` repeats ``message``.

    True if the ``difflib`` ratio of the folded texts is above `ECHO_SIMILARITY`, or if the folded reply has at least
    `ECHO_CONTAINED_WORDS` words and stands whole, at word boundaries, inside the folded message.
    """
    said, heard = fold(reply), fold(message)
    if not said or not heard:
        return False
    if len(said.split()) >= ECHO_CONTAINED_WORDS and f" {said} " in f" {heard} ":
        return True
    matcher = SequenceMatcher(None, heard, said, autojunk=False)
    return (
        matcher.real_quick_ratio() > ECHO_SIMILARITY
        and matcher.quick_ratio() > ECHO_SIMILARITY
        and matcher.ratio() > ECHO_SIMILARITY
    )


def leaks(reply: str, system: str) -> bool:
    """Whether ``reply`` repeats a long run of the system prompt.

    True if they share a run of ``min(LEAK_WORDS, words of the system prompt)`` consecutive folded words; never for a
    system prompt of fewer than `LEAK_MIN_WORDS` words.
    """
    rule, said = fold(system).split(), fold(reply).split()
    if len(rule) < LEAK_MIN_WORDS:
        return False
    length = min(LEAK_WORDS, len(rule))
    return not _grams(rule, length).keys().isdisjoint(_grams(said, length))


def is_repetition_loop(reply: str) -> bool:
    """Whether ``reply`` is stuck in a loop. Over the folded words, any one of:

    - one word `LOOP_WORD_REPEATS` times in a row;
    - one phrase of 2 to 12 words (`LOOP_PHRASE_WORDS`) `LOOP_PHRASE_REPEATS` times in a row;
    - one 4-gram (`LOOP_GRAM_WORDS`) `LOOP_GRAM_REPEATS` times anywhere, and once in `LOOP_GRAM_SPACING` words or more;
    - at least `LOOP_DISTINCT_WORDS` words, and fewer than `LOOP_DISTINCT_RATIO` of the trigrams distinct;
    - one unit of 1 to 4 characters `LOOP_CHARACTER_REPEATS` times in a row inside a word.
    """
    text = fold(reply)
    words = text.split()
    shortest, longest = LOOP_PHRASE_WORDS
    if _repeats_in_a_row(words, 1, LOOP_WORD_REPEATS):
        return True
    if any(_repeats_in_a_row(words, size, LOOP_PHRASE_REPEATS) for size in range(shortest, longest + 1)):
        return True
    most = max(_grams(words, LOOP_GRAM_WORDS).values(), default=0)
    if most >= LOOP_GRAM_REPEATS and most * LOOP_GRAM_SPACING >= len(words):
        return True
    if len(words) >= LOOP_DISTINCT_WORDS:
        trigrams = _grams(words, 3)
        if len(trigrams) < LOOP_DISTINCT_RATIO * trigrams.total():
            return True
    return _CHARACTER_LOOP.search(text) is not None


def gate(messages: Sequence[Mapping[str, str]], reply: str, finished: bool, special_tokens: int = 0) -> str | None:
    """The reason why ``reply`` is degenerate, or None if a judge may rate it.

    ``messages`` is the prompt, in order, each with ``role`` (``system``, ``user`` or ``assistant``) and ``content``.
    ``finished`` is False if generation hit the token cap. ``special_tokens`` counts special tokens, other than the
    end of the reply, that generation produced and decoding hid. The first reason that applies, in the order of
    `REASONS`:

    - ``empty``: no word character at all;
    - ``template_tokens``: a chat-template marker (``<|user|>``, ``</s>``, ``[INST]``, ``### Response:`` ...), or
      hidden special tokens;
    - ``echo``: repeats a user message (`is_echo`);
    - ``system_prompt_leak``: repeats a long run of a system message (`leaks`);
    - ``repetition_loop``: see `is_repetition_loop`;
    - ``other_language``: surely in another language than the user's messages (`is_other_language`);
    - ``truncated``: not finished.
    """
    if not fold(reply):
        return "empty"
    if special_tokens or _TEMPLATE_TOKEN.search(reply):
        return "template_tokens"
    if any(message["role"] == "user" and is_echo(reply, message["content"]) for message in messages):
        return "echo"
    if any(message["role"] == "system" and leaks(reply, message["content"]) for message in messages):
        return "system_prompt_leak"
    if is_repetition_loop(reply):
        return "repetition_loop"
    if is_other_language(reply, " ".join(message["content"] for message in messages if message["role"] == "user")):
        return "other_language"
    return None if finished else "truncated"


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _repeats_in_a_row(words: Sequence[str], size: int, repeats: int) -> bool:
    """Whether a phrase of ``size`` words stands ``repeats`` times back to back."""
    needed = size * (repeats - 1)
    run = 0
    for position in range(size, len(words)):
        run = run + 1 if words[position] == words[position - size] else 0
        if run >= needed:
            return True
    return False
