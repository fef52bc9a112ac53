from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.provenance.export.licences import (
    CORPORA,
    EMBEDDED,
    KNOWN,
    UNSTATED,
    Licence,
    Work,
    base_model,
    corpus,
    read_licence,
    roll_up,
)

LICENCES = [*KNOWN.values(), UNSTATED, Licence("our own terms", known=False)]
WORKS = st.builds(
    lambda n, i: Work(f"source{n}", LICENCES[i], "stated"), st.integers(0, 9), st.integers(0, len(LICENCES) - 1)
)
MANY = st.lists(WORKS, min_size=1, max_size=6, unique_by=lambda w: w.name)


@given(MANY, st.randoms())
def test_order_does_not_matter(works: list[Work], random) -> None:
    shuffled = list(works)
    random.shuffle(shuffled)
    assert roll_up(shuffled) == roll_up([*works, works[0]])


@given(MANY)
def test_every_restriction_is_carried_through_and_said(works: list[Work]) -> None:
    rolled = roll_up(works)
    said = " ".join(rolled.sentences())
    for flag, word in (
        ("non_commercial", "NonCommercial"),
        ("share_alike", "ShareAlike"),
        ("no_derivatives", "NoDerivatives"),
    ):
        assert getattr(rolled, flag) == any(getattr(w.licence, flag) for w in works)
        assert (word in said) == getattr(rolled, flag)
    assert rolled.licence.rank == max(w.licence.rank for w in works)
    for work in works:
        if not work.licence.stated:
            assert work.name in said
            assert "do not redistribute until you know" in said
        if not (work.licence.stated and work.licence.known):
            assert rolled.hub_id == "other"


@given(MANY, WORKS)
def test_one_more_source_never_loosens_anything(works: list[Work], more: Work) -> None:
    before, after = roll_up(works), roll_up([*works, Work("another", more.licence, "stated")])
    assert after.licence.rank >= before.licence.rank
    for flag in ("non_commercial", "share_alike", "no_derivatives"):
        assert getattr(after, flag) >= getattr(before, flag)
    assert bool(after.conflict) >= bool(before.conflict)
    assert after.settled <= before.settled


@given(st.sets(st.sampled_from(sorted(CORPORA)), min_size=1))
def test_the_corpora_are_noncommercial_unless_goemotions_stands_alone(names: set[str]) -> None:
    rolled = roll_up(corpus(n, {"format": n}, "/corpora") for n in names)
    if names == {"goemotions"}:
        assert (rolled.licence.id, rolled.hub_id, rolled.non_commercial) == ("Apache-2.0", "apache-2.0", False)
    else:
        assert (rolled.licence.id, rolled.hub_id, rolled.non_commercial) == ("CC-BY-NC-4.0", "cc-by-nc-4.0", True)
    assert {w.bibtex for w in rolled.works} == {CORPORA[n].bibtex for n in names}


def test_the_embedded_corpora_are_the_projects_own() -> None:
    work = corpus("esconv", {"format": "esconv"}, EMBEDDED)
    assert work.licence.id == "Apache-2.0"
    assert not work.bibtex
    assert EMBEDDED in work.basis


def test_a_source_of_ones_own_is_as_it_states_or_not_stated() -> None:
    entry = {"format": "chat", "path": "../mine"}
    assert corpus("mine", entry, EMBEDDED).licence == UNSTATED
    assert corpus("mine", {**entry, "license": "cc-by-sa-4.0"}, "/x").licence.share_alike
    own = corpus("mine", {**entry, "license": "Ask me first"}, "/x").licence
    assert (own.id, own.known, own.stated) == ("Ask me first", False, True)
    # ESConv's form does not make somebody's file ESConv.
    assert corpus("esconv", {"format": "esconv", "path": "x.json"}, "/x").licence == UNSTATED
    assert corpus("gone", None, "/x").licence == UNSTATED


def test_sharealike_and_noncommercial_of_different_licences_cannot_be_one_work() -> None:
    works = [Work("a", read_licence("CC-BY-SA-4.0"), ""), Work("b", read_licence("CC-BY-NC-4.0"), "")]
    rolled = roll_up(works)
    assert "cannot be passed on as one work" in rolled.conflict
    assert rolled.hub_id == "other"
    assert not roll_up(works[:1]).conflict
    assert not roll_up([works[1], Work("c", read_licence("CC-BY-NC-SA-4.0"), "")]).conflict


def test_a_base_that_nobody_has_recorded_is_not_stated() -> None:
    assert base_model("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "0" * 40).licence.id == "Apache-2.0"
    unknown = base_model("someone/model", "a" * 40)
    assert unknown.licence == UNSTATED
    assert unknown.url == f"https://huggingface.co/someone/model/tree/{'a' * 40}"
