"""Sentence vectors: the packaged MiniLM encoder, vectors kept between runs, and the table of one run's vectors."""

from curation.embedding.encoder import Encoder
from curation.embedding.minilm import packaged_folder
from curation.embedding.store import VectorStore, VectorTable, text_keys, write_vectors

__all__ = ["Encoder", "VectorStore", "VectorTable", "packaged_folder", "text_keys", "write_vectors"]
