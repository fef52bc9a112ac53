"""Any OpenAI-compatible endpoint as judge: one criterion a call, every answer kept by content.

With logprobs, one call at temperature 0 gives the probability of each digit. A server without them is asked ``samples``
times at temperature 1, and the method says so. Only a whole answer of status 200 is a verdict; all else is retried, then
unscored with its reason. The key comes from an environment variable; it stands in no file, no message and no cache key.
"""

import hashlib
import json
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from curation.cache import cache_folder
from curation.errors import HeartwoodError
from pipelines.evaluation.judges.rubric import (
    DIGITS,
    FEWEST_MASS,
    NoVerdictError,
    Rubric,
    RubricJudge,
    identity_digest,
    read_rubric,
    rubric_of,
)
from pipelines.evaluation.ratings import MECHANISMS

KIND = "endpoint"
SCHEME = "endpoint-v1"
RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504))
MOST_FAILURES = 3
"""After so many calls in a row without an answer the run stops; what was answered is kept."""

TOP_LOGPROBS = 20
SAMPLING_TEMPERATURE = 1.0
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for a longer pause has no answer for now."""

Method = Literal["logprobs", "samples"]
_DIGIT = re.compile(r"\s*([1-5])\s*[.]?\s*")
_PROBE = ("I lost my keys.", "Where did you last have them?")


@dataclass(frozen=True)
class EndpointSettings:
    """How the endpoint is asked; the names are the keys of ``judge.endpoint``. Prices are for a million tokens."""

    address: str
    model: str
    key_variable: str
    samples: int
    retries: int
    timeout_s: float
    requests_per_minute: float
    price_prompt: float
    price_completion: float


class EndpointJudge(RubricJudge):
    """Rates over HTTP. ``folder`` keeps answers by content, so that a run that was cut off goes on where it was.

    Rating raises HeartwoodError where the address refuses the request as such (key, model, form), or `MOST_FAILURES`
    calls in a row had no answer.
    """

    no_digit = "no digit from 1 to 5 in the answer"

    def __init__(self, settings: EndpointSettings, rubric: Rubric, method: Method, folder: Path | None = None) -> None:
        super().__init__(rubric)
        self.settings, self.method = settings, method
        self.folder = folder or cache_folder() / "judge"
        self._tokens: Counter[str] = Counter()
        self._failures = 0
        self._next_call = 0.0

    def usage(self) -> dict[str, Any]:
        """Calls and tokens of all answers used, kept ones included, and what they cost at the given prices."""
        s, t = self.settings, self._tokens
        cost = (t["prompt_tokens"] * s.price_prompt + t["completion_tokens"] * s.price_completion) / 1e6
        return {
            "calls": t["calls"],
            "prompt_tokens": t["prompt_tokens"],
            "completion_tokens": t["completion_tokens"],
            "cost": round(cost, 6),
        }

    def probabilities(self, criterion: str, seeker: str, reply: str) -> dict[int, float]:
        """Probability of each digit in the answer, or its share of the samples. Raises NoVerdictError without answer."""
        messages = self.rubric.messages(criterion, seeker, reply)
        if self.method == "logprobs":
            probabilities = digit_probabilities(self._ask(messages, 0))
            if probabilities is None:
                raise NoVerdictError("the answer came without logprobs")
            return probabilities
        said = [digit_of(self._ask(messages, sample)) for sample in range(self.settings.samples)]
        share = Counter(digit for digit in said if digit is not None)
        return {digit: count / len(said) for digit, count in share.items()}

    def _ask(self, messages: list[dict[str, str]], sample: int) -> dict[str, Any]:
        """One choice, kept or asked for now."""
        body = request_body(self.settings.model, messages, self.method, sample)
        kept = self.folder / f"{cache_key(self.settings.address, body)}.json"
        answer = _read(kept)
        if answer is None:
            try:
                answer = self._call(body)
            except NoVerdictError as why:
                self._failures += 1
                if self._failures >= MOST_FAILURES:
                    raise HeartwoodError(
                        f"{self.settings.address}: no answer to {self._failures} calls in a row; the last: {why}",
                        hint="look at the server, then run the same command again: answers so far are kept",
                    ) from None
                raise
            _write(kept, answer)
        self._failures = 0
        self._tokens["calls"] += 1
        for name in ("prompt_tokens", "completion_tokens"):
            self._tokens[name] += answer["usage"].get(name, 0)
        choice: dict[str, Any] = answer["choice"]
        return choice

    def _call(self, body: Mapping[str, Any]) -> dict[str, Any]:
        why = ""
        for attempt in range(self.settings.retries + 1):
            status, headers, data, why = self._post(body)
            if status == 200:
                answer = read_answer(data)
                if answer is not None:
                    return answer
                why = "status 200, but no whole answer"
            elif status and status not in RETRIED:
                raise HeartwoodError(
                    f"{self.settings.address}: status {status} for the model {self.settings.model!r}",
                    hint=f"check judge.endpoint, and the key in the environment variable {self.settings.key_variable}",
                )
            if attempt < self.settings.retries:
                wait = _pause(headers, attempt)
                if wait > LONGEST_WAIT:
                    break
                time.sleep(wait)
        raise NoVerdictError(why)

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes, str]:
        """(status or 0, headers, body, what went wrong)."""
        import requests

        time.sleep(max(0.0, self._next_call - time.monotonic()))
        self._next_call = time.monotonic() + 60 / self.settings.requests_per_minute
        key = os.environ.get(self.settings.key_variable, "")
        try:
            response = requests.post(
                f"{self.settings.address.rstrip('/')}/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=self.settings.timeout_s,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            # The name alone: a message of the library may quote the request.
            return 0, {}, b"", type(error).__name__
        return response.status_code, response.headers, response.content, f"status {response.status_code}"


def request_body(model: str, messages: list[dict[str, str]], method: Method, sample: int) -> dict[str, Any]:
    """What is sent. ``sample`` is the seed."""
    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 8, "seed": sample}
    if method == "logprobs":
        return body | {"temperature": 0.0, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return body | {"temperature": SAMPLING_TEMPERATURE}


def cache_key(address: str, body: Mapping[str, Any]) -> str:
    """sha256 over the address and all that is sent, the rubric's words, the texts and the decoding included."""
    content = json.dumps({"scheme": SCHEME, "address": address, "body": body}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def read_answer(data: bytes) -> dict[str, Any] | None:
    """The choice and the token counts of a response's body; None unless it is whole and has the form of the interface."""
    try:
        content = json.loads(data)
        choice = content["choices"][0]
        message = choice["message"]
        if not isinstance(message.get("content"), str | None):
            return None
        usage = content.get("usage") or {}
        tokens = {k: int(usage[k]) for k in ("prompt_tokens", "completion_tokens") if k in usage}
        kept = {"content": message.get("content") or "", "logprobs": _first_position(choice.get("logprobs"))}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return {"choice": kept, "usage": tokens}


def _first_position(logprobs: Any) -> list[list[Any]] | None:
    """(token, log-probability) of the alternatives in the first place that is not white space; None without logprobs."""
    if not logprobs or not logprobs.get("content"):
        return None
    for place in logprobs["content"]:
        if place["token"].strip():
            listed = place.get("top_logprobs") or [place]
            return [[str(t["token"]), float(t["logprob"])] for t in listed]
    return []


def digit_of(choice: Mapping[str, Any]) -> int | None:
    """The digit that an answer consists of, or None: a refusal, or a digit with anything beside it, is no verdict."""
    found = _DIGIT.fullmatch(choice["content"])
    return int(found.group(1)) if found else None


def digit_probabilities(choice: Mapping[str, Any]) -> dict[int, float] | None:
    """Probability of each digit in the place of the answer, tokens with white space counted; None without logprobs.

    An answer that goes on after its digit is no verdict, whatever its first token's probability.
    """
    if choice["logprobs"] is None:
        return None
    if digit_of(choice) is None:
        return {}
    found = dict.fromkeys(DIGITS, 0.0)
    for token, logprob in choice["logprobs"]:
        if token.strip() in {str(digit) for digit in DIGITS} and logprob <= 0:
            found[int(token)] += math.exp(logprob)
    return found


def _pause(headers: Mapping[str, str], attempt: int) -> float:
    """Seconds: what ``Retry-After`` says, else 0.5, 1, 2, 4 ..."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return 0.5 * 2.0**attempt


def _read(path: Path) -> dict[str, Any] | None:
    try:
        answer = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(answer, dict) and answer.keys() == {"choice", "usage"}
    return answer if whole and answer["choice"].keys() == {"content", "logprobs"} else None


def _write(path: Path, answer: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
        json.dump(answer, file, sort_keys=True)
    Path(file.name).replace(path)


def probe(settings: EndpointSettings, rubric: Rubric, folder: Path | None = None) -> Method:
    """Whether the endpoint offers logprobs: found by asking it once, and then the same for every reply.

    Raises:
        HeartwoodError: it gives no answer either way.
    """
    messages = rubric.messages(MECHANISMS[0], *_PROBE)
    failed = ""
    for method in ("logprobs", "samples"):
        judge = EndpointJudge(settings, rubric, method, folder)
        try:
            choice = judge._ask(messages, 0)
        except (NoVerdictError, HeartwoodError) as error:
            # Some servers refuse a request for logprobs altogether.
            failed = str(error)
            continue
        if method == "samples" or choice["logprobs"] is not None:
            return method
    raise HeartwoodError(
        f"{settings.address}: the judge does not answer: {failed}",
        hint=f"check judge.endpoint, the server, and the key in the environment variable {settings.key_variable}",
    )


def make_card(settings: EndpointSettings, rubric: str) -> dict[str, Any]:
    """The card of an endpoint as judge, its method found by a call."""
    if not settings.model:
        raise HeartwoodError("judge.endpoint.model is empty", hint="name the endpoint's model")
    read = read_rubric(rubric)
    method = probe(settings, read)
    samples = settings.samples if method == "samples" else 1
    identity = {
        "scheme": SCHEME,
        "address": settings.address,
        "model": settings.model,
        "rubric": read.digest,
        "method": method,
        "samples": samples,
        "fewest_mass": FEWEST_MASS,
    }
    return {
        "kind": KIND,
        "judge": f"{SCHEME}:{settings.model}",
        "digest": identity_digest(identity),
        "identity": identity,
        "rubric": rubric,
        "model": settings.model,
        "method": method,
        "settings": asdict(settings),
    }


def load_endpoint_judge(card: Mapping[str, Any]) -> EndpointJudge:
    """The judge of a card. Raises HeartwoodError if the rubric has changed since."""
    return EndpointJudge(EndpointSettings(**card["settings"]), rubric_of(card), card["method"])
