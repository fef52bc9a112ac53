import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contact import find_contacts, mask_contacts, mask_conversation
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
    ],
)
def test_numbers_and_signs_that_are_no_contacts_stay(text):
    assert mask_contacts(text) == (text, {})


def test_counts_are_by_kind_and_kinds_without_any_are_left_out():
    assert find_contacts("a@b.de, c@d.de and https://e.de/x") == {"EMAIL": 2, "URL": 1}
    assert find_contacts("nothing here") == {}


@given(st.lists(st.sampled_from(["call", "555-010-0123", "a@b.de", "https://x.org/y", "www.z.org", "(", ", "])))
def test_a_masked_text_has_no_contacts_left(parts):
    masked, _ = mask_contacts(" ".join(parts))
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
