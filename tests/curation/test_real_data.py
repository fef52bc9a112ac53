from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from curation.dedup.rules import joined
from curation.records import identify
from curation.sources import LABELS, parse
from curation.sources.official import fetch_local, write_files
from curation.sources.quarantine import Parsed, Quarantined
from curation.splits import split_records
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
            groups[joined(item.conversation)].append(item.conversation.emotions)
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


def test_dialogues_that_failed_quality_control_never_crash(real_data, tmp_path):
    (tmp_path / "ESConv.json").write_bytes((real_data / "FailedESConv.json").read_bytes())
    kept, broken = parsed("esconv", tmp_path)
    assert sum(p.rows for p in kept) + sum(q.rows for q in broken) == 196
    assert Counter(q.reason for q in broken) == {"unknown_label": 5}
    assert all(isinstance(p, Parsed) and len(p.conversation.turns) > 1 for p in kept)
