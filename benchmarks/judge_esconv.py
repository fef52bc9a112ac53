"""How the judge's index relates to what ESConv's seekers said: 1-5 for the chat's empathy, 1-5 for single replies.

``python -m benchmarks.judge_esconv --raw FOLDER`` reads ESConv.json and, where it is there, FailedESConv.json. Every
reply of a supporter that passes the gates is rated with the seeker's message before it. A chat's index is the mean over
its replies; a reply's feedback is the one that the seeker gave next. Spearman's rho stands beside that of reply length,
with 95 % percentile intervals from a bootstrap over chats. Ratings are of whole chats by the person who was helped, the
index is of single replies by their words: no strong relation is to be expected.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import HeartwoodError
from curation.sources.esconv import ROLE_OF
from pipelines.evaluation.gates import gate
from pipelines.evaluation.judges.epitome import load_card, load_judge
from pipelines.evaluation.score import DEGENERATE_INDEX, Judge

FILES = ("ESConv.json", "FailedESConv.json")
DRAWS = 2_000
FEWEST = 10


@dataclass(frozen=True)
class Reply:
    """One reply: its chat, the seeker's message before it, and the feedback (1 to 5) given next, if any."""

    chat: int
    seeker: str
    text: str
    feedback: int | None


def read_chats(path: Path, chats: int | None) -> tuple[list[Reply], dict[int, int]]:
    """Replies, and the seeker's rating of empathy (1 to 5) by chat.

    ``chats`` takes so many, in order of a hash of their text; None takes all. Chats without rating are left out.

    Raises:
        HeartwoodError: the file cannot be read.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise HeartwoodError(f"{path}: cannot be read ({error})", hint="give --raw a folder with ESConv.json") from None
    rated = [(chat, int(value)) for chat in found if (value := _empathy(chat)) in {"1", "2", "3", "4", "5"}]
    rated.sort(key=lambda entry: hashlib.sha256(json.dumps(entry[0], sort_keys=True).encode()).digest())
    replies: list[Reply] = []
    empathy = {}
    for number, (chat, value) in enumerate(rated[:chats]):
        empathy[number] = value
        replies += _replies(number, chat["dialog"])
    return replies, empathy


def _empathy(chat: Mapping[str, Any]) -> str:
    return str(chat.get("survey_score", {}).get("seeker", {}).get("empathy", ""))


def _replies(number: int, dialog: Sequence[Mapping[str, Any]]) -> list[Reply]:
    turns: list[list[Any]] = []
    for turn in dialog:
        role, feedback = ROLE_OF[turn["speaker"]], turn["annotation"].get("feedback")
        if turns and turns[-1][0] == role:
            turns[-1][1] += f" {turn['content'].strip()}"
        else:
            turns.append([role, turn["content"].strip(), None])
        if role == "user" and feedback is not None and len(turns) > 1 and turns[-2][2] is None:
            turns[-2][2] = int(feedback)
    return [
        Reply(number, heard[1], said[1], said[2])
        for heard, said in pairwise(turns)
        if (heard[0], said[0]) == ("user", "assistant") and heard[1] and said[1]
    ]


def relate(judge: Judge, replies: Sequence[Reply], empathy: Mapping[int, int]) -> dict[str, Any]:
    """Spearman's rho of index and of length with the ratings, by chat and by reply."""
    gated = [gate([{"role": "user", "content": r.seeker}], r.text, True) is not None for r in replies]
    ratings = iter(judge.rate([(r.seeker, r.text) for r, caught in zip(replies, gated, strict=True) if not caught]))
    index = np.zeros(len(replies))
    for i, caught in enumerate(gated):
        rating = None if caught else next(ratings)
        index[i] = DEGENERATE_INDEX if rating is None else rating.index
    words = np.array([len(r.text.split()) for r in replies], dtype=np.float64)
    chat = np.array([r.chat for r in replies])
    chats = np.array(sorted(set(chat.tolist())))
    human = np.array([empathy[c] for c in chats.tolist()], dtype=np.float64)
    by_chat = {
        "index": np.array([index[chat == c].mean() for c in chats]),
        "words": np.array([words[chat == c].mean() for c in chats]),
    }
    told = np.flatnonzero([r.feedback is not None for r in replies])
    feedback = np.array([replies[i].feedback for i in told], dtype=np.float64)
    return {
        "chats": len(chats),
        "mean_index_by_rating": {
            str(int(level)): round(float(by_chat["index"][human == level].mean()), 4) for level in np.unique(human)
        },
        "chat_empathy": {name: rho(values, human, chats) for name, values in by_chat.items()},
        "replies": len(replies),
        "replies_with_feedback": len(told),
        "reply_feedback": {
            "index": rho(index[told], feedback, chat[told]),
            "words": rho(words[told], feedback, chat[told]),
        },
    }


def rho(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], cluster: npt.NDArray[np.int64]
) -> dict[str, float | None]:
    """Spearman's rho, with its interval over draws of whole clusters; None where it is undefined."""
    from scipy.stats import spearmanr

    if len(a) < FEWEST or len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return {"rho": None, "low": None, "high": None}
    members = [np.flatnonzero(cluster == c) for c in np.unique(cluster)]
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        rows = np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))])
        if len(np.unique(b[rows])) > 1:
            draws.append(spearmanr(a[rows], b[rows]).statistic)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    numbers = {"rho": spearmanr(a, b).statistic, "low": low, "high": high}
    return {name: round(float(value), 4) for name, value in numbers.items()}


def main() -> None:
    """Print the relation of each file as JSON."""
    parser = argparse.ArgumentParser(description="The judge's index beside the ratings of ESConv's seekers.")
    parser.add_argument("--raw", type=Path, required=True, help="folder with ESConv.json, FailedESConv.json")
    parser.add_argument("--judge", type=Path, default=Path("models/judge_head"))
    parser.add_argument("--chats", type=int, help="so many chats of each file (default: all)")
    asked = parser.parse_args()
    judge, card = load_judge(asked.judge), load_card(asked.judge)
    found: dict[str, Any] = {"judge": f"{card['judge']}@{card['digest'][:12]}"}
    for name in FILES:
        if (asked.raw / name).is_file():
            found[name] = relate(judge, *read_chats(asked.raw / name, asked.chats))
    if len(found) == 1:
        raise HeartwoodError(f"{asked.raw}: none of {', '.join(FILES)}", hint="give --raw the folder that holds them")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
