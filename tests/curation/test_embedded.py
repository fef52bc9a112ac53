import json
from collections import Counter
from pathlib import Path

import pytest

from curation.contact import mask_conversation
from curation.jsonl import read_jsonl, write_jsonl
from curation.leakage.planted import PARAPHRASES
from curation.sources import parse
from curation.sources.goemotions import LABELS
from curation.sources.official import fetch_local, write_files
from curation.sources.quarantine import Parsed, Quarantined
from curation.text import fold, jaccard, shingles, words
from pipelines.embedded_corpora.build import build, paraphrase_pairs

FORMATS = ("empathetic_dialogues", "esconv", "goemotions")
REASONS = {
    ("empathetic_dialogues", "malformed_fields"): "field_count",
    ("empathetic_dialogues", "malformed_index"): "bad_index",
    ("empathetic_dialogues", "malformed_label"): "unknown_label",
    ("empathetic_dialogues", "malformed_empty"): "empty_text",
    ("esconv", "malformed_one_speaker"): "one_speaker",
    ("esconv", "malformed_strategy"): "unknown_label",
    ("goemotions", "malformed_fields"): "field_count",
    ("goemotions", "malformed_label"): "unknown_label",
    ("goemotions", "malformed_empty"): "empty_text",
    ("goemotions", "malformed_id"): "missing_id",
}


@pytest.fixture(scope="module")
def embedded(repo_root) -> Path:
    return repo_root / "data" / "embedded"


@pytest.fixture(scope="module")
def items(embedded, tmp_path_factory) -> dict[str, list[Parsed | Quarantined]]:
    """What parsing makes of each embedded corpus."""
    found = {}
    for fmt in FORMATS:
        folder = tmp_path_factory.mktemp(fmt)
        write_files(fetch_local(fmt, embedded), folder)
        found[fmt] = list(parse(fmt, folder, fmt))
    return found


@pytest.fixture(scope="module")
def truth(embedded) -> list[dict]:
    return json.loads((embedded / "truth.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def at(items):
    """Records by (source, file, first row)."""
    return {
        (fmt, i.origin.file, i.origin.first_row): i.conversation
        for fmt, found in items.items()
        for i in found
        if isinstance(i, Parsed)
    }


def records(items, fmt):
    return [i.conversation for i in items[fmt] if isinstance(i, Parsed)]


def test_rebuilding_gives_the_bytes_in_git(embedded, tmp_path):
    build(tmp_path)

    def files(folder):
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    built, shipped = files(tmp_path), files(embedded)
    shipped.pop("README.md")
    assert sorted(built) == sorted(shipped)
    assert [name for name in built if built[name] != shipped[name]] == []


def test_the_paraphrases_in_git_are_those_of_the_parts(tmp_path):
    write_jsonl(paraphrase_pairs(), tmp_path / "pairs.jsonl")
    assert (tmp_path / "pairs.jsonl").read_bytes() == PARAPHRASES.read_bytes()


def test_paraphrases_are_many_and_share_few_words_with_their_originals():
    pairs = read_jsonl(PARAPHRASES)
    assert len(pairs) >= 150
    assert len({p["text"] for p in pairs}) == len(pairs)
    assert all(fold(p["text"]) != fold(p["paraphrase"]) for p in pairs)
    overlap = [jaccard(*(shingles(fold(p[k]).split(), 3) for k in ("text", "paraphrase"))) for p in pairs]
    assert max(overlap) < 0.5, "else containment would find it, and it would measure nothing of meaning"


def test_every_file_but_the_readme_has_a_checksum(embedded):
    listed = {line.split("  ")[1] for line in (embedded / "SHA256SUMS").read_text().splitlines()}
    found = {p.relative_to(embedded).as_posix() for p in embedded.rglob("*") if p.is_file()}
    assert listed == found - {"README.md", "SHA256SUMS"}


def test_empathetic_dialogues_cover_the_32_emotions(items):
    found = records(items, "empathetic_dialogues")
    assert len(found) >= 700
    assert len({c.emotions for c in found}) == 32
    assert Counter(c.split for c in found).keys() == {"train", "dev", "test"}


def test_comments_cover_the_28_labels_in_every_split(items):
    found = records(items, "goemotions")
    assert len(found) >= 1500
    for split in ("train", "dev", "test"):
        assert {label for c in found if c.split == split for label in c.emotions} == set(LABELS)
    assert any(len(c.emotions) > 1 for c in found)


def test_support_dialogues_cover_the_8_strategies_and_every_split(items):
    found = records(items, "esconv")
    assert len(found) >= 100
    assert len({s for c in found for t in c.turns for s in t.strategies}) == 8
    assert {c.split for c in found} == {"train", "dev", "test"}


def test_every_entry_of_the_truth_points_at_rows_that_exist(embedded, items, truth):
    rows = {("esconv", "ESConv.json"): len(json.loads((embedded / "ESConv.json").read_text(encoding="utf-8")))}
    for fmt, folder in (("empathetic_dialogues", "empatheticdialogues"), ("goemotions", "goemotions")):
        for path in (embedded / folder).iterdir():
            rows[fmt, path.name] = path.read_text(encoding="utf-8").count("\n")
    starts = {
        (fmt, i.origin.file, i.origin.first_row): i.origin.last_row
        for fmt, found in items.items()
        for i in found
        if isinstance(i, Parsed)
    }
    for entry in truth:
        source, file = entry["source"], entry["file"]
        assert 1 <= entry["first_row"] <= entry["last_row"] <= rows[source, file]
        if not entry["fault"].startswith("malformed"):
            assert starts[source, file, entry["first_row"]] == entry["last_row"]
        if "of_row" in entry:
            assert (source, entry["of_file"], entry["of_row"]) in starts


def test_malformed_rows_are_quarantined_for_their_reason_and_no_others(items, truth):
    wanted = {}
    for entry in truth:
        if entry["fault"].startswith("malformed"):
            for row in range(entry["first_row"], entry["last_row"] + 1):
                wanted[entry["source"], entry["file"], row] = REASONS[entry["source"], entry["fault"]]
    found = {(fmt, i.file, i.first_row): i.reason for fmt in FORMATS for i in items[fmt] if isinstance(i, Quarantined)}
    assert found.keys() == wanted.keys()
    for key, reason in found.items():
        assert reason in (wanted[key], "broken_conversation")
    assert {(key[0], wanted[key]) for key, reason in found.items() if reason != "broken_conversation"} == {
        (source, reason) for (source, _), reason in REASONS.items()
    }


def pairs(at, truth, fault):
    return [
        (
            at[e["source"], e["file"], e["first_row"]],
            at[e["source"], e["of_file"], e["of_row"]],
        )
        for e in truth
        if e["fault"] == fault and "of_row" in e
    ]


def said(record):
    return [t.text for t in record.turns]


def test_planted_duplicates_are_what_the_truth_says(at, truth):
    for copy, original in pairs(at, truth, "duplicate_exact"):
        assert (said(copy), copy.emotions, copy.split) == (said(original), original.emotions, "train")
    for copy, original in pairs(at, truth, "duplicate_near"):
        for one, other in zip(said(copy), said(original), strict=True):
            assert (Counter(words(one)) - Counter(words(other))).keys() == {"really"}
    for copy, original in pairs(at, truth, "label_conflict"):
        assert said(copy) == said(original)
        assert copy.emotions != original.emotions
    for fault in ("duplicate_exact", "duplicate_near", "label_conflict"):
        assert pairs(at, truth, fault), fault


@pytest.mark.parametrize(
    ("fault", "repeats"),
    [
        ("leak_verbatim", lambda leak, original: leak == original),
        ("leak_recased", lambda leak, original: leak != original and fold(leak) == fold(original)),
        ("leak_truncated", lambda leak, original: leak != original and original.startswith(leak)),
        ("leak_paraphrased", lambda leak, original: fold(leak) != fold(original)),
    ],
)
def test_planted_leaks_stand_in_train_and_repeat_dev_as_they_say(at, truth, fault, repeats):
    found = pairs(at, truth, fault)
    assert len(found) >= 20
    for leak, original in found:
        assert (leak.split, original.split) == ("train", "dev")
        assert repeats(leak.turns[0].text, original.turns[0].text)


def test_contacts_stand_exactly_where_the_truth_says(items, truth):
    wanted = {(e["source"], e["file"], e["first_row"]) for e in truth if e["fault"] == "contact"}
    found = {
        (fmt, i.origin.file, i.origin.first_row)
        for fmt in FORMATS
        for i in items[fmt]
        if isinstance(i, Parsed) and mask_conversation(i.conversation)[1]
    }
    assert found == wanted
    assert len(wanted) >= 10


def test_stock_phrases_stand_in_train_more_than_once_and_in_dev(at, truth):
    copies = Counter(
        (fold(at[e["source"], e["file"], e["first_row"]].turns[0].text), e["file"])
        for e in truth
        if e["fault"] == "stock_phrase"
    )
    texts = {text for text, _ in copies}
    assert len(texts) >= 10
    assert all(copies[text, "train.tsv"] > 1 and copies[text, "dev.tsv"] >= 1 for text in texts)
