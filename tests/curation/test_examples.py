from curation.examples import EMOTION_INSTRUCTION, content_digest, examples_of, make_examples
from curation.records import Conversation, Turn
from tests.curation.making import comment, talk

SYSTEM = "Be kind."


def test_each_assistant_turn_gives_one_example_with_all_turns_before_it():
    record = talk("U1", "A1", "U2", "A2", "U3")
    first, second = examples_of(record, SYSTEM)
    assert first["prompt"] == [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "U1"}]
    assert first["completion"] == [{"role": "assistant", "content": "A1"}]
    assert [m["content"] for m in second["prompt"]] == [SYSTEM, "U1", "A1", "U2"]
    assert second["completion"] == [{"role": "assistant", "content": "A2"}]
    assert [e["uid"] for e in (first, second)] == [f"{record.uid}-1", f"{record.uid}-3"]
    assert (first["source"], first["task"], first["conversation"]) == ("talks", "dialogue", record.uid)


def test_the_list_of_prompt_messages_is_not_shared_between_examples():
    first, second = examples_of(talk("U1", "A1", "U2", "A2"), "")
    assert (len(first["prompt"]), len(second["prompt"])) == (1, 3)


def test_no_system_message_when_it_is_empty():
    (example,) = examples_of(talk("U1", "A1"), "")
    assert example["prompt"] == [{"role": "user", "content": "U1"}]


def test_an_opening_assistant_turn_is_history_and_no_completion():
    record = Conversation(
        "s",
        "dialogue",
        "g",
        "train",
        (Turn("assistant", "Hello!"), Turn("user", "Hi."), Turn("assistant", "So?")),
        id="x",
    )
    (example,) = examples_of(record, SYSTEM)
    assert [m["content"] for m in example["prompt"]] == [SYSTEM, "Hello!", "Hi."]
    assert example["uid"] == "x-0-2"


def test_a_user_alone_gives_nothing():
    assert examples_of(talk("U1"), SYSTEM) == []


def test_a_comment_gives_the_instruction_and_its_sorted_labels_without_system_message():
    record = comment("I won!", "surprise", "joy")
    (example,) = examples_of(record, SYSTEM)
    assert example["prompt"] == [{"role": "user", "content": f"{EMOTION_INSTRUCTION}\nI won!"}]
    assert example["completion"] == [{"role": "assistant", "content": "joy, surprise"}]
    assert (example["uid"], example["task"]) == (f"{record.uid}-0", "emotion")


def test_examples_come_in_the_order_of_their_conversations():
    records = [talk("b", "B"), comment("x"), talk("a", "A", "c", "C")]
    expected = [e for record in records for e in examples_of(record, SYSTEM)]
    assert make_examples(iter(records), SYSTEM) == expected
    assert len(expected) == 4


def test_the_content_digest_follows_texts_uids_and_order_and_no_other_field():
    one, two = examples_of(talk("a", "A", "c", "C"), SYSTEM)
    base = content_digest([one, two])
    assert content_digest([one | {"source": "renamed"}, two]) == base
    assert content_digest([two, one]) != base
    assert content_digest([one]) != base
    assert content_digest([one | {"uid": "x"}, two]) != base
    assert content_digest([one | {"completion": [{"role": "assistant", "content": "B"}]}, two]) != base
    assert content_digest(examples_of(talk("a", "A", "c", "C"), "Other.")) != base
