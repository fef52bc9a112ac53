"""The 171 questions of EQ-Bench v2: from a user's file, or from the official address, checked by digest."""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.evaluation.eqbench.scoring import QUESTIONS

DOWNLOAD = "download"
ADDRESS = (
    "https://raw.githubusercontent.com/EQ-bench/EQ-Bench/d28c60c514fe6667dc5818114ed10088f91f09f3/"
    "data/eq_bench_v2_questions_171.json"
)
SHA256 = "b4e9bf11df7e88bc12381efab18565f8b0ff0d4743fe8708c4482df91c4e617a"

_CRITIQUE_REQUEST = " Then critique your answer by thinking it through step by step. Finally, give your revised scores."
_FIRST_HEADING = "First pass scores:\n"
_CRITIQUE = "Critique: <your critique here>"
_END = "[End of answer]"
_HINT = f"give the official file of EQ-Bench v2 (--questions {DOWNLOAD}, or {ADDRESS})"


@dataclass(frozen=True)
class Question:
    """The prompt with its request for a critique, and the reference: emotion to intensity, 0 to 10."""

    prompt: str
    reference: Mapping[str, float]

    def text(self, revision: bool) -> str:
        """The user's message, with or without the request to criticise and revise the answer (default since v2.1)."""
        if revision:
            return self.prompt
        text = self.prompt.replace(_CRITIQUE_REQUEST, "").replace(_FIRST_HEADING, "")
        return text[: text.index(_CRITIQUE)] + "\n" + text[text.index(_END) :] + "\nYour answer:\n"


@dataclass(frozen=True)
class Questions:
    """All questions by number, in the file's order; the file's sha256, and whether it is the official one."""

    items: Mapping[str, Question]
    sha256: str

    @property
    def official(self) -> bool:
        """Whether these are the bytes of the pinned release."""
        return self.sha256 == SHA256

    @property
    def references(self) -> dict[str, Mapping[str, float]]:
        """The references alone."""
        return {number: question.reference for number, question in self.items.items()}


def read_questions(location: str) -> Questions:
    """The questions in a file, or with ``download`` those of the pinned official address.

    Raises:
        HeartwoodError: the file or the address cannot be read, other bytes were downloaded, or a question is not of
            the form of version 2.
    """
    if location == DOWNLOAD:
        data = _download()
    else:
        try:
            data = Path(location).read_bytes()
        except OSError as error:
            raise HeartwoodError(f"{location}: cannot be read ({error.strerror})", hint=_HINT) from None
    try:
        loaded = json.loads(data)
    except ValueError as error:
        raise HeartwoodError(f"{location}: not JSON ({error})", hint=_HINT) from None
    if not isinstance(loaded, dict) or len(loaded) != QUESTIONS:
        found = f"{len(loaded)} entries" if isinstance(loaded, dict | list) else type(loaded).__name__
        raise HeartwoodError(f"{location}: {found}; EQ-Bench v2 has {QUESTIONS} questions by number", hint=_HINT)
    items = {number: _question(raw, f"{location}: question {number}") for number, raw in loaded.items()}
    return Questions(items, hashlib.sha256(data).hexdigest())


def _question(raw: Any, where: str) -> Question:
    try:
        prompt, full = raw["prompt"], raw["reference_answer_fullscale"]
        reference = {full[f"emotion{i}"]: float(full[f"emotion{i}_score"]) for i in range(1, 5)}
    except (KeyError, TypeError, ValueError) as error:
        raise HeartwoodError(
            f"{where}: no prompt with four emotions and scores in reference_answer_fullscale ({error!r})", hint=_HINT
        ) from None
    if len(reference) != 4 or not all(0 <= score <= 10 for score in reference.values()):
        raise HeartwoodError(f"{where}: the reference is not four different emotions, each 0 to 10", hint=_HINT)
    if not isinstance(prompt, str) or _CRITIQUE not in prompt or _END not in prompt:
        raise HeartwoodError(f"{where}: the prompt has no {_CRITIQUE!r} or no {_END!r}", hint=_HINT)
    return Question(prompt, reference)


def _download() -> bytes:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=60) as response:
            data: bytes = response.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise HeartwoodError(
            f"{ADDRESS}: cannot be downloaded ({error})", hint="check the network, or give --questions FILE"
        ) from None
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise HeartwoodError(
            f"{ADDRESS}: sha256 is {found}, expected {SHA256}", hint="download again, or give --questions FILE"
        )
    return data
