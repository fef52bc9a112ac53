"""Croissant 1.1 metadata of a release (http://mlcommons.org/croissant/1.1), with PROV-O provenance.

One record set a data file, checked by ``mlcroissant``; the reports and models are files without records.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError
from pipelines.layout import DEV_EXAMPLES, MIXTURE, PROMPTS
from pipelines.provenance.export.facts import CROISSANT, Facts
from pipelines.provenance.export.licences import RollUp
from pipelines.provenance.export.statement import PLAIN, SIGNED

VERSION = "http://mlcommons.org/croissant/1.1"
_CR, _SC = "http://mlcommons.org/croissant/", "https://schema.org/"
_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format"
    " includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace"
    " samplingRate separator source subField transform"
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": _SC,
    **{term: f"cr:{term}" for term in _TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "cr": _CR,
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": f"{_CR}RAI/",
    "sc": _SC,
}
_FORMATS = {
    ".jsonl": "application/jsonlines",
    ".json": "application/json",
    ".lock": "text/plain",
    ".yaml": "text/plain",
}
_EXAMPLE = {
    "uid": "The example: its conversation's uid and the number of the completion's turn.",
    "source": "The corpus that the conversation is from.",
    "task": "dialogue or emotion.",
    "conversation": "The record: sha256 of its content (record-v1) and a copy number.",
}
_PROMPT = {
    "id": "The prompt.",
    "conversation": "The dev record that it is from.",
    "source": "The corpus that the conversation is from.",
    "emotion": "The emotion label of the conversation; may be empty.",
}
RECORD_SETS: Mapping[str, tuple[str, str, dict[str, str], tuple[str, ...]]] = {
    "train": (MIXTURE.as_posix(), "The mixture, in training order.", _EXAMPLE, ("prompt", "completion")),
    "dev": (DEV_EXAMPLES.as_posix(), "Held-out examples; no mixture moves them.", _EXAMPLE, ("prompt", "completion")),
    "prompts": (PROMPTS.as_posix(), "The fixed evaluation prompts, drawn from dev.", _PROMPT, ("messages",)),
}
"""Each record set's file, what it is, its columns of text and its columns of chat messages."""


def build(facts: Facts) -> dict[str, Any]:
    """The metadata as JSON-LD; it depends on the facts alone."""
    cited = [w for w in facts.sources.values() if w.bibtex]
    files = [p for p in facts.digests if Path(p).suffix in _FORMATS and p not in (CROISSANT, PLAIN, SIGNED)]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.about.name,
        "description": describe(facts),
        "conformsTo": VERSION,
        "version": "1.0.0",
        "datePublished": facts.origin.date,
        "url": facts.about.url,
        "creator": {"@type": "sc:Organization", "name": facts.about.creator},
        "inLanguage": "en",
        "license": licence_values(facts.licence),
        "usageInfo": " ".join(facts.licence.sentences()),
        "citeAs": "\n".join(w.bibtex for w in cited) or "none of the sources states a citation",
        "isLiveDataset": False,
        "prov:wasDerivedFrom": [
            {
                "@type": "prov:Entity",
                "@id": w.url or f"urn:heartwood:source:{w.name}",
                "prov:label": f"{w.title or w.name} ({w.licence.id})",
            }
            for w in facts.sources.values()
        ],
        "prov:wasGeneratedBy": _activity(facts, MIXTURE.as_posix()),
        "distribution": [_file(facts, p) for p in files],
        "recordSet": [_record_set(facts, name) for name in RECORD_SETS],
    }


def describe(facts: Facts) -> str:
    """One paragraph on what the data is."""
    parts = ", ".join(f"{n:,} {name}" for name, n in facts.data[MIXTURE.as_posix()].by_source.items())
    return (
        f"A curated mixture for fine-tuning chat models to be empathetic: {parts} examples; the held-out dev examples"
        " and the fixed prompts that models are scored on. Duplicates and leaks of dev and test are removed, every"
        " removal has a ledger row. Made with heartwood."
    )


def licence_values(licence: RollUp) -> list[str]:
    """The value of ``license``: the licence that covers the whole first, then those of the works."""
    if licence.conflict or not licence.settled:
        return [" ".join(licence.sentences())]
    rest = sorted({w.licence.url for w in licence.works} - {licence.licence.url})
    return [licence.licence.url, *rest]


def _activity(facts: Facts, out: str) -> dict[str, Any]:
    """The stage that wrote a file, as a PROV activity with what it used."""
    name = facts.lock.producer[out]
    locked = facts.lock.stages[name]
    used = [d for d in locked.get("deps", []) if d["path"].split("/")[0] in ("data", "models", "reports")]
    return {
        "@type": "prov:Activity",
        "@id": f"urn:heartwood:stage:{name}:{facts.origin.commit}",
        "prov:label": f"{locked.get('cmd', name)} (DVC stage {name}, commit {facts.origin.commit})",
        "prov:used": [
            {"@type": "prov:Entity", "@id": f"urn:md5:{d['md5']}", "prov:label": d["path"]}
            for d in used
            if d.get("md5")
        ],
    }


def _file(facts: Facts, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{facts.sizes[path]} B",
        "encodingFormat": _FORMATS[Path(path).suffix],
        "sha256": facts.digests[path].sha256,
    }
    if path in facts.data:
        found["prov:wasGeneratedBy"] = _activity(facts, path)
    return found


def _record_set(facts: Facts, name: str) -> dict[str, Any]:
    path, what, columns, chats = RECORD_SETS[name]
    fields = [_leaf(f"{name}/{c}", path, c, text) for c, text in columns.items()]
    for chat in chats:
        fields.append(
            {
                "@type": "cr:Field",
                "@id": f"{name}/{chat}",
                "description": "Chat messages, in order.",
                "isArray": True,
                "arrayShape": "-1",
                "source": {"fileObject": {"@id": path}, "extract": {"column": chat}},
                "subField": [
                    _leaf(f"{name}/{chat}/{part}", path, chat, text, f"$[*].{part}")
                    for part, text in (("role", "system, user or assistant."), ("content", "The message."))
                ],
            }
        )
    rows = f"{facts.data[path].rows:,} records"
    key = "id" if "id" in columns else "uid"
    keyed = {} if name == "train" else {"key": {"@id": f"{name}/{key}"}}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{what} {rows}.",
        **keyed,
        "field": fields,
    }


def _leaf(identifier: str, path: str, column: str, text: str, json_path: str = "") -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column}}
    if json_path:
        source["transform"] = {"jsonPath": json_path}
    return {"@type": "cr:Field", "@id": identifier, "description": text, "dataType": "sc:Text", "source": source}


def require_valid(path: Path) -> None:
    """Let ``mlcroissant`` read the metadata and the first record of every record set.

    Raises:
        HeartwoodError: it finds an error, or a record that it cannot load.
    """
    try:
        import mlcroissant
    except ImportError as error:
        raise HeartwoodError(
            f"{error.name} is not installed",
            hint="install the libraries of exports: pip install 'heartwood[export]'",
        ) from None
    try:
        dataset = mlcroissant.Dataset(path)
        for name in RECORD_SETS:
            next(iter(dataset.records(name)))
    except Exception as error:  # The library raises whatever its parts raise.
        raise HeartwoodError(
            f"{path.name}: mlcroissant does not accept it ({error})", hint="this is a fault of heartwood: report it"
        ) from None
