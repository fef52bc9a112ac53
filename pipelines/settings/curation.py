"""Sections of params.yaml for raw data, records, splits, deduplication, leakage and validation."""

import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curation.errors import HeartwoodError
from pipelines.settings.strict import Cosine, Count, Section, Seed, Share, parse_section


class RawParams(Section):
    """Where the corpora come from: a folder in the official layout, or ``download``."""

    location: str = Field(min_length=1)
    """The folder with the corpora in their official layout, relative to the main checkout, or `download`: the official
    addresses, each file checked by sha256."""


class SourceParams(Section):
    """One corpus: the format it is written in, and where it is if not in ``raw.location``.

    People's own formats need a ``path``, a file or a folder, relative to the main checkout; ``esconv`` may have one
    (another file in ESConv's form); the corpora of several files have none. A source with a path may state its
    ``license``: an SPDX identifier, or any words.
    """

    format: Literal["empathetic_dialogues", "goemotions", "esconv", "chat", "prompt_completion"]
    """How the source is written: one of the three corpora, `chat` (rows with `messages`) or `prompt_completion`."""
    path: str | None = Field(default=None, min_length=1, validate_default=True)
    """File or folder of the source, relative to the main checkout. Needed for `chat` and `prompt_completion`."""
    license: str | None = Field(default=None, min_length=1)
    """The source's licence, as releases state it (an SPDX id, or words). The three corpora bring their own."""

    @field_validator("path")
    @classmethod
    def _where_the_format_has_one(cls, path: str | None, info: ValidationInfo) -> str | None:
        of = info.data.get("format")
        if path is None and of in ("chat", "prompt_completion"):
            raise ValueError(f"needed: the file or folder of a source of format {of}")
        if path is not None and of in ("empathetic_dialogues", "goemotions"):
            raise ValueError(f"not allowed: a source of format {of} comes from raw.location")
        return path

    @field_validator("license")
    @classmethod
    def _where_nobody_else_knows_it(cls, stated: str | None, info: ValidationInfo) -> str | None:
        if stated is not None and info.data.get("path") is None:
            raise ValueError("not allowed: the terms of a source without a path are its authors'")
        return stated


def parse_sources(value: Any) -> dict[str, SourceParams]:
    """The section ``sources``: entries by name, each name also that of a folder and of a key in ``mix``.

    Raises:
        HeartwoodError: no entries, a name that is none, or an entry that is not as it must be.
    """
    if not isinstance(value, dict) or not value:
        raise HeartwoodError(f"params.yaml: sources is {value!r}; allowed: named entries", hint="correct params.yaml")
    for name in value:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise HeartwoodError(
                f"params.yaml: sources.{name}: {name!r} is no name; allowed: letters, digits, _ and -",
                hint="rename the source",
            )
    return {name: parse_section(SourceParams, entry, f"sources.{name}") for name, entry in sorted(value.items())}


class RecordsParams(Section):
    """Contact details, and the largest share of a source's raw rows that may be quarantined."""

    contact: Literal["mask", "quarantine", "keep"]
    """Contact details in texts: `mask` them, `quarantine` the row, or `keep` them."""
    max_quarantined: Share
    """The largest share of a source's raw rows that may be set aside; more fails the stage."""


class SplitParams(Section):
    """How records without an official split are divided."""

    seed: Seed
    """Of the draw of groups for sources without official splits."""
    dev_share: Share
    """Share of such a source's groups that goes to dev."""
    test_share: Share
    """Share of such a source's groups that goes to test."""

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitParams":
        if self.dev_share + self.test_share >= 1:
            raise ValueError("dev_share + test_share must stay under 1")
        return self


class DedupParams(Section):
    """Thresholds of deduplication."""

    near_jaccard: Cosine
    """Jaccard of word n-grams from which two records are near duplicates."""
    shingle_words: Count
    """Words of an n-gram (shingle)."""
    permutations: Count
    """Hash functions of MinHash, which only proposes pairs; the exact Jaccard decides."""
    bands: Count
    """Bands of MinHash's index; must divide `permutations`. More bands propose more pairs."""
    semantic_cosine: Cosine
    """Cosine of sentence vectors from which two records say the same; both sides must reach it."""
    generic_words: Count
    """A text of at most this many words is a stock phrase; stock phrases are no duplicates."""
    label_conflicts: Literal["keep", "merge", "drop"]
    """Equal texts whose labels differ: `keep` all and count them, `merge` them into one record with all labels, or
    `drop` them."""

    @model_validator(mode="after")
    def _bands_divide(self) -> "DedupParams":
        if self.permutations % self.bands:
            raise ValueError(f"bands must divide permutations ({self.permutations})")
        return self


class MinRecall(Section):
    """The smallest recall of planted leaks that passes, by kind; paraphrases are published, not gated."""

    verbatim: Share
    """Of copies, word for word."""
    recased: Share
    """Of copies with other case and punctuation."""
    truncated: Share
    """Of copies that lost their end."""
    rewrapped: Share
    """Of copies inside another sentence."""
    role_swapped: Share
    """Of copies said by the other speaker."""


class DetectorParams(Section):
    """Thresholds of leak detection, and the length up to which a text is a stock phrase."""

    contained_share: Cosine
    """Share of the shorter text's word n-grams from which it is contained in the longer."""
    shingle_words: Count
    """Words of an n-gram (shingle)."""
    semantic_cosine: Cosine
    """Cosine of sentence vectors from which two texts say the same."""
    generic_words: Count
    """A text of at most this many words may be a stock phrase; its matches are counted apart."""


class LeakageParams(Section):
    """The leak detector, what happens to stock phrases, and the recall gate."""

    generic: Literal["remove", "strict", "keep"]
    """Train records that share only stock phrases with dev or test: `remove` those that say nothing else, word for
    word; `strict` removes every one; `keep` removes none."""
    detector: DetectorParams
    """Thresholds of the leak detector."""
    seed: Seed
    """Of the leaks that are planted to measure recall."""
    min_recall: MinRecall
    """The gate: the smallest recall of each planted kind."""


class ValidateParams(Section):
    """Row counts below which a table is taken for a broken one, and above which a warning says so."""

    min_train_rows: Count
    """Fewer train records of all sources fail."""
    min_dev_rows: Count
    """Fewer dev records fail."""
    max_rows: Count
    """More rows in a table give a warning."""
