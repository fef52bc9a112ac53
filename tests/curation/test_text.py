from hypothesis import given
from hypothesis import strategies as st

from curation.text import fold, is_generic, jaccard, shingles, words


def test_fold_lowers_and_turns_punctuation_into_spaces():
    assert fold("  Don't   STOP—now!\n(really)_ok ") == "don t stop now really _ok"


def test_fold_keeps_letters_of_every_script_and_digits():
    assert fold("Élan, ДА 42!") == "élan да 42"


def test_fold_of_symbols_alone_is_empty():
    assert fold("?!... 😀") == ""


@given(st.text())
def test_fold_collapses_whitespace_and_holds_no_ascii_punctuation(text):
    folded = fold(text)
    assert folded == " ".join(folded.split())
    assert not set(folded) & set("!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~")
    assert fold(f" {text}?\t") == folded


def test_words_are_the_folded_words():
    assert words("It's OK.") == ["it", "s", "ok"]


def test_shingles_are_distinct_word_ngrams():
    assert shingles("a b a b a".split(), 2) == {"a b", "b a"}


def test_a_text_shorter_than_a_shingle_has_none():
    assert shingles(["a", "b"], 3) == frozenset()
    assert shingles(["a", "b", "c"], 3) == {"a b c"}


def test_jaccard_known_values():
    assert jaccard(frozenset("abcd"), frozenset("cdef")) == 2 / 6
    assert jaccard(frozenset("ab"), frozenset("ab")) == 1.0
    assert jaccard(frozenset(), frozenset()) == 0.0


def test_generic_is_decided_by_the_number_of_folded_words():
    assert is_generic("Thank you so much!!", 4)
    assert not is_generic("Thank you so much!!", 3)
    assert not is_generic("Don't", 1), "an apostrophe parts words"
