"""What the page says: verdicts, differences and checks in words for readers who are no statisticians."""

from collections.abc import Mapping
from typing import Any

from pipelines.evaluation.score import STOCK_FROM

HEADLINES = {
    "verified": (
        "Verified",
        "Data, settings, code and the evidence of every score agree, link by link, from the raw files to the last number."
        " “heartwood verify --help” says what this check cannot find.",
    ),
    "stale": (
        "Stale: made before the last change",
        "A score here is older than something that it rests on. It was true once. Run “dvc repro” to make it anew.",
    ),
    "broken": (
        "Broken: do not trust these scores",
        "The evidence contradicts itself: a file is not what the stage that is said to have made it wrote.",
    ),
    "incomplete": (
        "Could not be checked",
        "Something that a score rests on is missing here, so nothing can be said about it.",
    ),
}
WORDS = {
    "verified": "verified",
    "stale": "stale",
    "broken": "broken",
    "incomplete": "not checked",
    "improved": "better",
    "worse": "worse",
    "inconclusive": "no clear difference",
}
TRICKS = {
    "echo": "repeating the message back scores low",
    "empty": "an empty reply scores low",
    "hostile": "a hostile reply loses",
    "negated": "saying the opposite loses",
    "other_seeker": "a reply to somebody else loses",
    "padded_twofold": "saying it twice gains nothing",
    "prompt_leak": "repeating the instructions scores low",
    "shuffled_sentences": "shuffled sentences gain nothing",
    "sorry_five_times": "“sorry” five times gains nothing",
    "sorry_once": "one “sorry” gains little",
    "trailing_question": "a tacked-on question gains little",
    "wrong_emotion": "naming the wrong feeling loses",
}
LEARNING = {
    "improving": "still improving on held-out data",
    "level": "no longer improving on held-out data",
    "overfitting": "overfitting: it went past its best",
    "diverging": "diverging: train and held-out loss both rose",
    "unknown": "too little measured to say",
}
PAIR_KINDS = {
    "duplicate": "duplicates",
    "leak": "leaks",
    "split": "records whose group stands in a later split",
    "close call": "decisions near a threshold",
}


def rule_name(label: str) -> str:
    """``dedup-exact-v1`` as people say it; other labels as they are."""
    stage, _, rest = label.partition("-")
    if stage not in ("dedup", "leakage") or not rest:
        return label
    name = rest.rpartition("-v")[0] or rest
    return f"{name} {'duplicates' if stage == 'dedup' else 'leaks'}"


def plainly(contrast: Mapping[str, Any]) -> str:
    """What a paired difference amounts to, for a reader who is no statistician."""
    size, low, high = contrast["difference"], contrast["low"], contrast["high"]
    signed = [f"{value:+.2f}".replace("-", "−") for value in (size, low, high)]
    counts = f"{contrast['up']} replies scored higher, {contrast['down']} lower, {contrast['same']} the same"
    begin = _say_stock(contrast)
    p = contrast["p_holm"]
    tested = f"adjusted p {'under 0.001' if p < 0.001 else f'{p:.3f}'}"
    if contrast["verdict"] == "inconclusive":
        rose = (
            " More of its replies are broken, so it is not called better." if contrast["degenerate_rate_rose"] else ""
        )
        return (
            f"Inconclusive: the average differs by {signed[0]}, but the true difference may lie anywhere from {signed[1]}"
            f" to {signed[2]} ({tested}).{rose} These {contrast['n']} prompts could have shown a difference of"
            f" {contrast['mde']:.2f}. {counts}.{begin}"
        )
    way = "higher" if size > 0 else "lower"
    near, far = sorted((abs(low), abs(high)))
    return (
        f"On average {abs(size):.2f} {way}, and very likely between {near:.2f} and {far:.2f} {way}"
        f" (95 % interval; {tested}). {counts}.{begin}"
    )


def _say_stock(contrast: Mapping[str, Any]) -> str:
    """How many replies of the later model begin alike, where either model's share is far above that of people."""
    before, after = (contrast.get(f"stock_opening_rate_{side}") for side in ("from", "to"))
    if before is None or after is None or max(before, after) < STOCK_FROM:
        return ""
    means = [contrast.get(f"stock_opening_{key}_to") for key in ("index", "others")]
    pays = f" Their average is {means[0]:.2f}, that of its other replies {means[1]:.2f}." if None not in means else ""
    return (
        f" {100 * after:.0f} % of its replies begin with the same three words, of the other model's {100 * before:.0f} %;"
        f" of people's in the corpora, 1 %.{pays}"
    )
