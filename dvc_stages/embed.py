"""Sentence vectors of every distinct text of the three splits."""

import sys

from curation.embedding import Encoder, VectorStore, text_keys, write_vectors
from curation.records import distinct_texts
from pipelines.layout import SPLIT, VECTORS
from pipelines.progress import progress
from pipelines.provenance.stage import Run, execute


def main(run: Run) -> None:
    """Write the table of this run's vectors, sorted by text digest; vectors kept from earlier runs are reused."""
    texts = distinct_texts(SPLIT.values())
    with progress("encoding texts") as show:
        encoder = Encoder(VectorStore(), progress=show)
        vectors = encoder.encode(texts)
    write_vectors(text_keys(texts), vectors, VECTORS)
    run.record("distinct_texts", len(texts))
    run.record("encoded_texts", encoder.encoded)
    run.record("encode_seconds", round(encoder.seconds, 3))
    rate = f" in {encoder.seconds:.1f} s ({encoder.encoded / encoder.seconds:.0f} texts/s)" if encoder.encoded else ""
    print(f"{len(texts)} distinct texts, {encoder.encoded} encoded now{rate}", file=sys.stderr)


if __name__ == "__main__":
    execute(main)
