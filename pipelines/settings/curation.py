"""Sections of params.yaml for raw data, records, splits, deduplication, leakage and validation."""

from typing import Literal

from pydantic import Field, model_validator

from pipelines.settings.strict import Cosine, Count, Section, Seed, Share


class RawParams(Section):
    """Where the corpora come from: a folder in the official layout, or ``download``."""

    location: str = Field(min_length=1)


class SourceParams(Section):
    """One corpus: the format it is written in."""

    format: Literal["empathetic_dialogues", "goemotions", "esconv"]


class RecordsParams(Section):
    """Contact details, and the largest share of a source's raw rows that may be quarantined."""

    contact: Literal["mask", "keep"]
    max_quarantined: Share


class SplitParams(Section):
    """How records without an official split are divided."""

    seed: Seed
    dev_share: Share
    test_share: Share

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitParams":
        if self.dev_share + self.test_share >= 1:
            raise ValueError("dev_share + test_share must stay under 1")
        return self


class DedupParams(Section):
    """Thresholds of deduplication."""

    near_jaccard: Cosine
    shingle_words: Count
    permutations: Count
    bands: Count
    semantic_cosine: Cosine
    generic_words: Count

    @model_validator(mode="after")
    def _bands_divide(self) -> "DedupParams":
        if self.permutations % self.bands:
            raise ValueError(f"bands must divide permutations ({self.permutations})")
        return self


class MinRecall(Section):
    """The smallest recall of planted leaks that passes, by kind; paraphrases are published, not gated."""

    verbatim: Share
    recased: Share
    truncated: Share
    rewrapped: Share
    role_swapped: Share


class DetectorParams(Section):
    """Thresholds of leak detection, and the length up to which a text is a stock phrase."""

    contained_share: Cosine
    shingle_words: Count
    semantic_cosine: Cosine
    generic_words: Count


class LeakageParams(Section):
    """The leak detector, what happens to stock phrases, and the recall gate."""

    generic: Literal["remove", "keep"]
    detector: DetectorParams
    seed: Seed
    min_recall: MinRecall


class ValidateParams(Section):
    """Row counts below which a table is taken for a broken one."""

    min_train_rows: Count
    min_dev_rows: Count
