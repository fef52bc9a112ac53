import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contact import (
    PATTERNS,
    any_contacts,
    find_contacts,
    mask_contacts,
    mask_conversation,
    may_hold_contacts,
    treat_contacts,
)
from curation.records import Origin
from curation.sources.quarantine import Parsed
from tests.curation.making import talk


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("See https://example.org/a?b=1, please.", "See [URL], please."),
        ("It is on www.example.org.", "It is on [URL]."),
        ("(HTTP://EXAMPLE.ORG/x)", "([URL])"),
        ("Write to jo.li+x@mail.example.co.uk.", "Write to [EMAIL]."),
        ("Call 555-010-0123 now", "Call [PHONE] now"),
        ("Call (555) 010-0123!", "Call [PHONE]!"),
        ("Call +1 555 010 0123.", "Call [PHONE]."),
        ("Call 1-800-555-0199.", "Call [PHONE]."),
        ("Call +44 20 7946 0958 or +49 (30) 123456.", "Call [PHONE] or [PHONE]."),
        ("reddit.com/r/aww and help.example.co.uk/a/b!", "[URL] and [URL]!"),
        ("www.x.de", "[URL]"),
        ("a" * 100 + "@b.de", "[EMAIL]"),
        ("wait...jo@b.de", "[EMAIL]"),
    ],
)
def test_each_form_of_contact_is_masked(text, masked):
    assert mask_contacts(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "I paid 1200 in 2019-2020 and 5550100123 was my order number.",
        "at 9:30 we met @ the cafe",
        "a.b.c, and so on",
        "room 555-010-01234",
        "http:// is how links begin",
        "I found it on Indeed.com, or was it Amazon.com?",
        "It is me.his/her fault, and/or yours",
        "+5 10 15 and +1000 points",
        "in 1984-1986 or 1-12-2019",
    ],
)
def test_numbers_and_signs_that_are_no_contacts_stay(text):
    assert mask_contacts(text) == (text, {})


def test_counts_are_by_kind_and_kinds_without_any_are_left_out():
    assert find_contacts("a@b.de, c@d.de and https://e.de/x") == {"EMAIL": 2, "URL": 1}
    assert find_contacts("nothing here") == {}


@given(
    st.lists(
        st.sampled_from(
            [
                "call",
                "555-010-0123",
                "a@b.de",
                "https://x.org/y",
                "www.z.org",
                "(",
                ", ",
                "1-",
                "+44 20 7946 0958",
                "x.com/",
                "/",
            ]
        )
    ),
    st.sampled_from([" ", "", "."]),
)
def test_a_masked_text_has_no_contacts_left(parts, joint):
    masked, _ = mask_contacts(joint.join(parts))
    assert mask_contacts(masked) == (masked, {})


def test_a_conversation_is_masked_in_turns_and_situation_and_nowhere_else():
    before = talk("Write me: a@b.de", "I will.", situation="My number is 555-010-0123.", group="g")
    after, counts = mask_conversation(before)
    assert [t.text for t in after.turns] == ["Write me: [EMAIL]", "I will."]
    assert after.situation == "My number is [PHONE]."
    assert counts == {"EMAIL": 1, "PHONE": 1}
    assert (after.group, after.split, after.emotions) == (before.group, before.split, before.emotions)


def test_a_conversation_without_contacts_is_returned_as_it_is():
    before = talk("Nothing here.", "No.")
    assert mask_conversation(before) == (before, {})


@pytest.mark.parametrize(
    "piece", ["a.", "a@", "+1 ", "1-", "http://", "www.", "@", "+", "-", "(555) ", "555-", "+12", "+1(22)", "a.com"]
)
def test_hostile_repetition_takes_no_time(piece):
    text = piece * (20_000 // len(piece))
    started = time.process_time()
    mask_contacts(text)
    assert time.process_time() - started < 1, "milliseconds, unless a pattern backtracks"


@pytest.mark.parametrize("policy", ["mask", "quarantine", "keep"])
def test_a_record_without_contacts_is_the_same_under_every_policy(policy):
    parsed = Parsed(talk("Nothing here.", "No."), Origin("f", 1, 1), 1, "raw")
    assert treat_contacts(parsed, policy) == (parsed, {})


@given(st.text(alphabet=st.sampled_from("aWw.@/ 5٣\n-+()\u0130\u212aſ") | st.characters()))
def test_every_contact_detail_has_a_sign_that_the_first_look_sees(text):
    found = any(pattern.search(text) for pattern in PATTERNS.values())
    plain = re.search(r"[@/\d]|www\.", text, re.IGNORECASE) is not None
    assert may_hold_contacts(text) == plain
    assert plain or not found


def test_no_other_character_is_a_w_in_lower_case():
    alike = [c for c in map(chr, range(0x110000)) if "w" in c.lower() or re.fullmatch("w", c, re.IGNORECASE)]
    assert alike == ["W", "w"]


@given(st.lists(st.text(alphabet=st.sampled_from("wa.@/ 5\nx") | st.characters()), max_size=5))
def test_texts_looked_at_together_hold_what_each_of_them_holds(texts):
    assert any_contacts(texts) == any(find_contacts(text) for text in texts)
