"""What people replied to each other in the corpora, for tests of what is measured on a model's replies."""

from itertools import pairwise
from pathlib import Path

from curation.sources import parse
from curation.sources.official import fetch_local, write_files
from curation.sources.quarantine import Quarantined


def replies(location: Path, folder: Path) -> list[tuple[str, str]]:
    """(what was heard, the reply) of every assistant turn of both dialogue corpora."""
    found = []
    for name in ("empathetic_dialogues", "esconv"):
        write_files(fetch_local(name, location), folder / name)
        for item in parse(name, folder / name, name):
            if isinstance(item, Quarantined):
                continue
            found += [
                (heard.text, said.text)
                for heard, said in pairwise(item.conversation.turns)
                if heard.role == "user" and said.role == "assistant"
            ]
    return found
