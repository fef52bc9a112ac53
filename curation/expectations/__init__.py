"""Great Expectations suites over the tables, kept as reviewed JSON in ``suites/``."""

from curation.expectations.frames import conversation_frame, example_frame, split_frame
from curation.expectations.validation import Outcome, SuiteResult, require, validate_table, warnings_of

__all__ = [
    "Outcome",
    "SuiteResult",
    "conversation_frame",
    "example_frame",
    "require",
    "split_frame",
    "validate_table",
    "warnings_of",
]
