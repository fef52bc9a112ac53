import json
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest

from curation.dedup.rules import joined
from curation.records import content_id, identify
from curation.sources import LABELS, parse
from curation.sources.intake import take_in
from curation.sources.official import fetch_local, fetch_path, write_files
from curation.sources.quarantine import Quarantined
from curation.splits import split_records
from curation.text import fold
from tests.curation.making import parsed

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


@pytest.fixture(scope="module")
def corpus(real_data, tmp_path_factory):
    """A function: one real corpus, parsed once."""
    kept = {}

    def read(fmt):
        if fmt not in kept:
            folder = tmp_path_factory.mktemp(fmt)
            write_files(fetch_local(fmt, real_data), folder)
            kept[fmt] = list(parse(fmt, folder, fmt))
        return kept[fmt]

    return read


def rows_and_records(items):
    assert not [i for i in items if isinstance(i, Quarantined)]
    rows, records = Counter(), Counter()
    for item in items:
        rows[item.conversation.split] += item.rows
        records[item.conversation.split] += 1
    return rows, records


def test_empathetic_dialogues_has_every_row_and_conversation(corpus):
    rows, records = rows_and_records(corpus("empathetic_dialogues"))
    assert rows == {"train": 84_165, "dev": 12_078, "test": 10_973}
    assert records == {"train": 19_532, "dev": 2_770, "test": 2_547}


def test_goemotions_has_every_row(corpus):
    rows, _ = rows_and_records(corpus("goemotions"))
    assert rows == {"train": 43_410, "dev": 5_426, "test": 5_427}
    assert {label for i in corpus("goemotions") for label in i.conversation.emotions} == LABELS["goemotions"]


def test_esconv_has_every_dialogue_in_its_split(corpus):
    rows, records = rows_and_records(corpus("esconv"))
    assert rows == records == {"train": 910, "dev": 195, "test": 195}
    for item in corpus("esconv"):
        roles = [t.role for t in item.conversation.turns]
        assert all(a != b for a, b in pairwise(roles))


def test_comments_of_dev_and_test_that_also_stand_in_train(corpus):
    texts = defaultdict(list)
    for item in corpus("goemotions"):
        texts[item.conversation.split].append(joined(item.conversation))
    train = set(texts["train"])
    assert {s: sum(t in train for t in texts[s]) for s in ("dev", "test")} == {"dev": 113, "test": 109}


def test_folded_duplicates_and_label_conflicts_of_the_train_comments(corpus):
    groups = defaultdict(list)
    for item in corpus("goemotions"):
        if item.conversation.split == "train":
            groups[fold(item.conversation.turns[0].text)].append(item.conversation.emotions)
    repeated = [labels for labels in groups.values() if len(labels) > 1]
    assert sum(len(labels) - 1 for labels in repeated) == 554
    assert len(repeated) == 271
    assert sum(len(set(labels)) > 1 for labels in repeated) == 124


@pytest.mark.parametrize("fmt", ["empathetic_dialogues", "goemotions", "esconv"])
def test_uids_are_unique_and_every_record_is_split_or_removed(corpus, fmt):
    records = [c for c, _ in identify((i.conversation, i.origin) for i in corpus(fmt))]
    assert len({c.uid for c in records}) == len(corpus(fmt)) == len(records)
    result = split_records(records, seed=0, dev_share=0.1, test_share=0.1)
    after = [c.uid for found in result.splits.values() for c in found] + [r.record.uid for r in result.removals]
    assert sorted(after) == sorted(c.uid for c in records)
    assert result.assigned == {"train": 0, "dev": 0, "test": 0}


def test_esconv_keeps_every_rating_of_the_seekers(corpus):
    ratings = Counter(n for i in corpus("esconv") for t in i.conversation.turns for n in t.feedback)
    assert ratings == {5: 3993, 4: 2315, 3: 1121, 2: 179, 1: 73}


def test_esconv_in_the_form_of_the_hub_is_the_same_but_for_the_ratings(corpus, real_data, tmp_path):
    dialogues = json.loads((real_data / "ESConv.json").read_text(encoding="utf-8"))
    splits = json.loads((real_data / "ESConv.hub_splits.json").read_text(encoding="utf-8"))
    role = {"seeker": "usr", "supporter": "sys"}
    for split, indices in splits.items():
        with (tmp_path / f"{split}.jsonl").open("w", encoding="utf-8") as handle:
            for index in indices:
                turns = [
                    {
                        "text": t["content"],
                        "speaker": role[t["speaker"]],
                        **{k: v for k, v in t["annotation"].items() if k == "strategy"},
                    }
                    for t in dialogues[index]["dialog"]
                ]
                handle.write(json.dumps({**dialogues[index], "dialog": turns}) + "\n")
    kept, broken = parsed("esconv", tmp_path)
    assert broken == []

    def without_ratings(record):
        return replace(record, turns=tuple(replace(t, feedback=()) for t in record.turns))

    official = sorted((without_ratings(i.conversation) for i in corpus("esconv")), key=content_id)
    assert sorted((p.conversation for p in kept), key=content_id) == official


def test_dialogues_that_failed_quality_control_are_records_or_set_aside_for_true_reasons(real_data, tmp_path):
    write_files(fetch_path("esconv", real_data / "FailedESConv.json", "sources.failed.path"), tmp_path)
    intake = take_in(parse("esconv", tmp_path, "failed"), "mask")
    assert intake.counts["raw_rows"] == 196
    assert intake.counts["records"] == 191
    assert intake.counts["quarantined_by_reason"] == {"unknown_label": 5}
    for row in intake.quarantined:
        names = {t["annotation"].get("strategy") for t in json.loads(row.raw)["dialog"]}
        assert names & {"Direct Guidance", "Approval and Reassurance", "Restatement"}
    assert all(len(c.turns) > 1 for c, _ in intake.records)


@pytest.mark.parametrize(
    ("fmt", "contacts", "records"),
    [
        ("empathetic_dialogues", {"URL": 2}, 2),
        ("goemotions", {"PHONE": 1}, 1),
        ("esconv", {"PHONE": 3, "URL": 4}, 6),
    ],
)
def test_contacts_of_the_real_corpora(corpus, fmt, contacts, records):
    counts = take_in(corpus(fmt), "quarantine").counts
    assert (counts["contacts"], counts["records_with_contacts"]) == (contacts, records)
    assert counts["records"] == len(corpus(fmt)) - records
    assert set(counts["quarantined_by_reason"]) == {"contact"}
