"""Records in, records out: parsing, splitting, deduplication, leakage, validation and mixing of chat corpora."""
