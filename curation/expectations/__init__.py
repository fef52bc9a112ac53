"""Great Expectations suites over the tables, kept as reviewed JSON in ``suites/``."""

from curation.expectations.validation import SuiteResult, conversation_frame, example_frame, validate_frame

__all__ = ["SuiteResult", "conversation_frame", "example_frame", "validate_frame"]
