"""docs/reference/commands.md: every verb with what its help says, from the command line itself."""

from typing import Any

HEAD = """# Commands

<!-- Written by `python -m docs.generate` from `heartwood --help` and the help of every verb. -->

"""


def command_pages() -> dict[str, str]:
    """The page, by its path."""
    parts = [HEAD, f"```text\n{_help()}\n```\n"]
    from typer.main import get_command

    from heartwood.cli import STORY, app

    group: Any = get_command(app)
    in_order = [n for told in STORY.values() for n in told if n in group.commands]
    for name in in_order + sorted(set(group.commands) - set(in_order)):
        for verb in ([name], *([name, inner] for inner in getattr(group.commands[name], "commands", ()))):
            parts.append(f"\n## `heartwood {' '.join(verb)}`\n\n```text\n{_help(*verb)}\n```\n")
    return {"docs/reference/commands.md": "".join(parts)}


def _help(*verb: str) -> str:
    """The help as it is printed in a pipe."""
    from typer.testing import CliRunner

    from heartwood.cli import app

    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*verb, "--help"], prog_name="heartwood")
    if done.exit_code:
        raise SystemExit(f"heartwood {' '.join(verb)} --help exited {done.exit_code}: {done.output}")
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())
