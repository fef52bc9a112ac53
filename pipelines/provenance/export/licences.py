"""Licences of corpora, rolled up: what a mixture, and what is made of it, may be used for.

Nothing here is legal advice. The rules are those of careful people: the most restrictive terms win, NonCommercial and
ShareAlike terms are carried through, and what nobody has stated permits nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EMBEDDED = "data/embedded"
NOT_STATED = "not stated"
DO_NOT = "do not redistribute until you know the terms"


@dataclass(frozen=True)
class Licence:
    """The terms of a licence as far as they matter here.

    ``id`` is an SPDX identifier, or the words in which somebody stated it. ``known`` says whether its terms are known
    here; ``stated`` whether anybody has named one.
    """

    id: str
    url: str = ""
    non_commercial: bool = False
    share_alike: bool = False
    no_derivatives: bool = False
    known: bool = True
    stated: bool = True

    @property
    def rank(self) -> int:
        """How restrictive it is: a higher number wins the roll-up."""
        if not self.stated:
            return 16
        if not self.known:
            return 8
        return self.share_alike + 2 * self.non_commercial + 4 * self.no_derivatives

    @property
    def hub_id(self) -> str:
        """The value of ``license`` in a card of the hub."""
        return self.id.lower() if self.known and self.stated and self.id.lower() in _ON_THE_HUB else "other"

    def terms(self) -> list[str]:
        """What it asks for, in words."""
        if not self.stated:
            return [DO_NOT]
        if not self.known:
            return ["its terms are not known to heartwood: read it before you redistribute anything"]
        found = []
        if self.non_commercial:
            found.append("NonCommercial")
        if self.share_alike:
            found.append("ShareAlike")
        if self.no_derivatives:
            found.append("NoDerivatives: a mixture or a model made of it must not be passed on")
        return found


def _cc(name: str, version: str = "4.0") -> Licence:
    parts = name.split("-")
    return Licence(
        f"CC-{name}-{version}",
        f"https://creativecommons.org/licenses/{name.lower()}/{version}/",
        non_commercial="NC" in parts,
        share_alike="SA" in parts,
        no_derivatives="ND" in parts,
    )


_SPDX = "https://spdx.org/licenses/"
KNOWN = {
    licence.id.lower(): licence
    for licence in (
        *(_cc(name) for name in ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-ND", "BY-NC-ND")),
        *(_cc(name, "3.0") for name in ("BY", "BY-SA", "BY-NC", "BY-NC-SA")),
        Licence("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
        *(
            Licence(name, f"{_SPDX}{name}.html")
            for name in ("Apache-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause", "ODC-By-1.0", "CDLA-Permissive-2.0")
        ),
        Licence("ODbL-1.0", f"{_SPDX}ODbL-1.0.html", share_alike=True),
    )
}
_ON_THE_HUB = {
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "bsd-2-clause",
    "cc0-1.0",
    *(f"cc-{n}-4.0" for n in ("by", "by-sa", "by-nc", "by-nc-sa", "by-nd", "by-nc-nd")),
    *(f"cc-{n}-3.0" for n in ("by", "by-sa", "by-nc", "by-nc-sa")),
}
UNSTATED = Licence(NOT_STATED, known=False, stated=False)


def read_licence(stated: str | None) -> Licence:
    """The licence that somebody stated: an SPDX identifier, or any words; None is nobody."""
    if stated is None:
        return UNSTATED
    return KNOWN.get(stated.strip().lower()) or Licence(stated.strip(), known=False)


@dataclass(frozen=True)
class Work:
    """Something that a release rests on: a corpus or a base model, its licence, whence that is known, its citation."""

    name: str
    licence: Licence
    basis: str
    title: str = ""
    url: str = ""
    bibtex: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title or self.name,
            "licence": self.licence.id,
            "licence_url": self.licence.url,
            "terms": self.licence.terms(),
            "basis": self.basis,
            "url": self.url,
        }


CORPORA: Mapping[str, Work] = {
    "empathetic_dialogues": Work(
        "empathetic_dialogues",
        KNOWN["cc-by-nc-4.0"],
        "its authors' terms",
        "EmpatheticDialogues",
        "https://arxiv.org/abs/1811.00207",
        "@inproceedings{rashkin2019empathetic, title={Towards Empathetic Open-domain Conversation Models: A New"
        " Benchmark and Dataset}, author={Rashkin, Hannah and Smith, Eric Michael and Li, Margaret and Boureau,"
        " Y-Lan}, booktitle={ACL}, year={2019}}",
    ),
    "esconv": Work(
        "esconv",
        KNOWN["cc-by-nc-4.0"],
        "its authors' terms",
        "ESConv",
        "https://arxiv.org/abs/2106.01144",
        "@inproceedings{liu2021esconv, title={Towards Emotional Support Dialog Systems}, author={Liu, Siyang and"
        " Zheng, Chujie and Demasi, Orianna and Sabour, Sahand and Li, Yu and Yu, Zhou and Jiang, Yong and Huang,"
        " Minlie}, booktitle={ACL}, year={2021}}",
    ),
    "goemotions": Work(
        "goemotions",
        KNOWN["apache-2.0"],
        "its authors' terms",
        "GoEmotions",
        "https://arxiv.org/abs/2005.00547",
        "@inproceedings{demszky2020goemotions, title={GoEmotions: A Dataset of Fine-Grained Emotions},"
        " author={Demszky, Dorottya and Movshovitz-Attias, Dana and Ko, Jeongwoo and Cowen, Alan and Nemade, Gaurav"
        " and Ravi, Sujith}, booktitle={ACL}, year={2020}}",
    ),
}
"""The corpora by the name of their format, with their authors' terms."""

BASES: Mapping[str, Work] = {
    "models/base": Work(
        "models/base",
        Licence("LicenseRef-heartwood-base", known=False),
        "its card (models/base/README.md), which names the openly licensed corpora that it was trained on:"
        " BSD-3-Clause, MIT, CC BY 4.0, CDLA-Sharing-1.0 (models are unrestricted results), public domain",
        "the embedded base model",
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": Work(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        KNOWN["apache-2.0"],
        "its card on the hub",
        url="https://huggingface.co/TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    ),
}
JUDGE = (
    "The judge's head was fitted to EPITOME's human ratings (Sharma et al. 2020, https://arxiv.org/abs/2009.08441),"
    " whose terms ask for academic, non-commercial research: so do the scores and whatever is selected by them."
)


def corpus(name: str, entry: Mapping[str, Any] | None, location: str) -> Work:
    """The source of that name as a work with its licence.

    Args:
        entry: its entry in the section ``sources`` of the params that ``raw`` ran with; None if it has none.
        location: ``raw.location`` of that run.
    """
    if entry is None:
        return Work(name, UNSTATED, "it is no entry of params.yaml: sources")
    if entry.get("path") is not None:
        stated = entry.get("license")
        basis = f"params.yaml: sources.{name}.license" if stated is not None else f"sources.{name} has no license"
        return Work(name, read_licence(stated), basis)
    of = CORPORA[entry["format"]]
    if location == EMBEDDED:
        basis = f"written for heartwood in the form of {of.title}; raw.location is {EMBEDDED}"
        return Work(name, KNOWN["apache-2.0"], basis, f"embedded corpus in the form of {of.title}")
    return Work(name, of.licence, of.basis, of.title, of.url, of.bibtex)


def base_model(name: str, revision: str) -> Work:
    """A base model as a work with its licence; the revision is empty for a folder."""
    if name in BASES:
        return BASES[name]
    url = f"https://huggingface.co/{name}/tree/{revision}" if revision else ""
    return Work(name, UNSTATED, "its terms are not recorded here: see its own card", url=url)


@dataclass(frozen=True)
class RollUp:
    """What applies to something that is made of several works.

    ``licence`` is the most restrictive one. ``conflict`` says why no single licence can cover the whole, or is empty.
    """

    works: tuple[Work, ...]
    licence: Licence
    non_commercial: bool
    share_alike: bool
    no_derivatives: bool
    conflict: str

    @property
    def hub_id(self) -> str:
        """The value of ``license`` in a card of the hub: ``other`` where no single licence covers the whole."""
        return "other" if self.conflict or not self.settled else self.licence.hub_id

    @property
    def settled(self) -> bool:
        """Whether the terms of every work are known."""
        return all(w.licence.stated and w.licence.known for w in self.works)

    def sentences(self) -> list[str]:
        """What a reader must know, in plain words; at least one sentence."""
        found = []
        if unstated := [w.name for w in self.works if not w.licence.stated]:
            found.append(f"The licence of {', '.join(unstated)} is not stated: {DO_NOT}.")
        if unknown := [w for w in self.works if w.licence.stated and not w.licence.known]:
            listed = ", ".join(f"{w.name} ({w.licence.id}: {w.basis})" for w in unknown)
            found.append(f"Terms of their own, to be read first: {listed}.")
        if self.conflict:
            found.append(self.conflict)
        if self.non_commercial:
            of = ", ".join(w.name for w in self.works if w.licence.non_commercial)
            found.append(f"NonCommercial, because of {of}: no use for commercial advantage, nor of what is made of it.")
        if self.share_alike:
            of = ", ".join(w.name for w in self.works if w.licence.share_alike)
            found.append(f"ShareAlike, because of {of}: what is made of it is passed on under the same licence.")
        if self.no_derivatives:
            of = ", ".join(w.name for w in self.works if w.licence.no_derivatives)
            found.append(f"NoDerivatives, because of {of}: a mixture or a model made of it must not be passed on.")
        if self.settled and not self.conflict:
            found.append(f"The most restrictive licence is {self.licence.id}; it applies to the whole.")
        found.append("Each record stays under the terms of its source, and names its authors.")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "licence": self.licence.id,
            "url": self.licence.url,
            "hub": self.hub_id,
            "non_commercial": self.non_commercial,
            "share_alike": self.share_alike,
            "no_derivatives": self.no_derivatives,
            "settled": self.settled,
            "conflict": self.conflict,
            "works": [w.as_dict() for w in self.works],
        }


def roll_up(works: Iterable[Work]) -> RollUp:
    """The terms of what is made of several works; order does not matter, and at least one is needed."""
    found = tuple(sorted(set(works), key=lambda w: w.name))
    licences = [w.licence for w in found]
    strictest = max(licences, key=lambda x: (x.rank, x.id))
    shared = {x.id: x for x in licences if x.share_alike}
    narrower = sorted({x.id for x in licences if x.non_commercial and not x.share_alike})
    conflict = ""
    if len(shared) > 1:
        of = " and ".join(sorted(shared))
        conflict = f"{of} each ask for their own licence on the whole: it cannot be passed on as one work."
    elif narrower and (open_to_commerce := [x.id for x in shared.values() if not x.non_commercial]):
        conflict = (
            f"{open_to_commerce[0]} asks for its own licence on the whole, and {', '.join(narrower)} forbids the"
            " commercial use that it permits: the whole cannot be passed on as one work."
        )
    return RollUp(
        found,
        strictest,
        any(x.non_commercial for x in licences),
        any(x.share_alike for x in licences),
        any(x.no_derivatives for x in licences),
        conflict,
    )
