"""A fourth corpus: one entry in params.yaml and a share, and it goes through every stage of curation."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.clone import Clone, make_clone

pytestmark = pytest.mark.pipeline
PLACES = "harbour market garden station library kitchen mountain river theatre workshop bakery school".split()
FEELINGS = "worried relieved tired hopeful nervous proud lonely grateful angry calm".split()


def dialogue(place: str, feeling: str, number: int) -> dict[str, object]:
    return {
        "id": f"{place}-{feeling}",
        "messages": [
            {"role": "system", "content": "You are kind."},
            {"role": "user", "content": f"On my {number}th visit to the {place} I felt {feeling} for a whole hour."},
            {
                "role": "assistant",
                "content": f"What was it about visit {number} of the {place} that left you {feeling}?",
            },
        ],
        "emotions": [feeling],
        "split": "dev" if number % 10 == 0 else "train",
    }


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    base: Path = tmp_path_factory.mktemp("own")
    made = make_clone(base)
    rows = [dialogue(p, f, 10 * i + j) for i, p in enumerate(PLACES) for j, f in enumerate(FEELINGS)]
    leak = {**rows[1], "id": "leak", "messages": rows[0]["messages"]}
    bad = {"id": "bad", "messages": [{"role": "user", "content": "is nobody there to answer me?"}]}
    text = "".join(json.dumps(row) + "\n" for row in [*rows, leak, bad])
    (base / "mine.jsonl").write_text(text, encoding="utf-8")
    params = made.read("params.yaml")
    params = params.replace("sources:\n", "sources:\n  mine:\n    format: chat\n    path: ../mine.jsonl\n", 1)
    params = params.replace("  esconv: 0.3\n", "  esconv: 0.3\n  mine: 0.05\n", 1)
    made.write("params.yaml", params)
    made.commit("a fourth corpus")
    made.dvc("repro", "check", "prompts")
    return made


def test_every_row_is_accounted_for(own: Clone) -> None:
    counts = own.json("reports/records.json")["mine"]
    assert (counts["raw_rows"], counts["raw_rows_kept"]) == (122, 121)
    assert counts["quarantined_by_reason"] == {"one_speaker": 1}
    assert counts["system_messages_left_out"] == 121


def test_it_is_split_cleaned_and_drawn_like_the_others(own: Clone) -> None:
    assert own.json("reports/split.json")["dev"]["mine"] == 12
    ledger = pq.read_table(own.folder / "data/ledger/leakage.parquet").to_pylist()
    (leak,) = [row for row in ledger if row["group"] == "leak"]
    assert (leak["rule"], leak["detail"].partition(":")[0]) == ("leakage-exact-v1", "substantive, both")
    assert own.json("reports/mixture.json")["realised"]["mine"] == 0.05
    assert own.json("reports/check.json")["residual_leaks"] == 0
    assert "mine" in own.heartwood("flow").stdout
