"""The dev examples, for loss and for anyone else's trainer."""

from curation.examples import make_examples
from curation.jsonl import write_jsonl
from curation.records import read_records
from pipelines.layout import DEV_EXAMPLES, SPLIT
from pipelines.provenance.stage import Run, execute
from pipelines.settings.mixture import ChatParams


def main(run: Run) -> None:
    """Write the examples of dev, in uid order."""
    system = run.section("chat", ChatParams).system
    write_jsonl(make_examples(read_records(SPLIT["dev"]), system), DEV_EXAMPLES)


if __name__ == "__main__":
    execute(main)
