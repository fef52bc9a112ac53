"""Sentence vectors of every distinct text of the three splits."""

import sys

from curation.embedding import Encoder, VectorStore, pack_vectors
from curation.records import read_records, text_digest, write_table
from pipelines.layout import SPLIT, VECTORS
from pipelines.provenance.stage import Run, execute


def main(run: Run) -> None:
    """Write the table of this run's vectors, sorted by text digest; vectors kept from earlier runs are reused."""
    texts: set[str] = set()
    for path in SPLIT.values():
        for conversation in read_records(path):
            texts.update(t.text for t in conversation.turns)
            if conversation.situation:
                texts.add(conversation.situation)
    ordered = sorted(texts, key=text_digest)
    encoder = Encoder(VectorStore())
    vectors = encoder.encode(ordered)
    write_table(pack_vectors([text_digest(t) for t in ordered], vectors), VECTORS)
    print(f"{len(ordered)} distinct texts, {encoder.encoded} encoded now", file=sys.stderr)


if __name__ == "__main__":
    execute(main)
