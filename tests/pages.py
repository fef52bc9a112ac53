"""Shell blocks of README and docs/: how they are found, what is checked of each, and how they are run.

A block is fenced as ``bash``. The comment before it may say ``<!-- exit: 3 -->`` (another exit code than 0) or
``<!-- not run: REASON -->``; what is not run is still checked, command by command.
"""

import importlib.util
import logging
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FENCE = re.compile(
    r"^(?: *<!-- (?P<key>exit|not run): (?P<value>[^\n]+?) -->\n+)?(?P<indent> *)```bash\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
# Programs that need no check of their own beside the shell's.
PLAIN = {
    "lint-imports",
    "mkdocs",
    "mypy",
    "openssl",
    "ruff",
    "cat",
    "cd",
    "cp",
    "echo",
    "git",
    "grep",
    "head",
    "mkdir",
    "printf",
    "rm",
    "test",
    ".",
}


@dataclass(frozen=True)
class Block:
    """One block: its page and line, its text, the exit code expected, and the reason if it is not run."""

    page: str
    line: int
    text: str
    exit_code: int = 0
    not_run: str = ""


def blocks_of(text: str, page: str) -> list[Block]:
    """The blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text"))
        code = int(match["value"]) if match["key"] == "exit" else 0
        why = match["value"] if match["key"] == "not run" else ""
        indent = match["indent"]
        body = "".join(x.removeprefix(indent) for x in match["text"].splitlines(keepends=True))
        found.append(Block(page, line, body, code, why))
    return found


def commands_of(text: str) -> list[list[str]]:
    """The words of every command of a block; assignments before a command are left out."""
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        commands.append([])
        for word in lexer:
            if set(word) <= set(";&|"):
                commands.append([])
            elif commands[-1] or not re.match(r"\w+=", word):
                commands[-1].append(word)
    return [c for c in commands if c]


def fault(command: list[str], root: Path) -> str | None:
    """What is wrong with a command, found without running it; None if nothing."""
    program, *rest = command
    if program == "heartwood":
        return _heartwood_fault(rest)
    if program == "dvc":
        return _dvc_fault(rest, root)
    if program in ("python3", "python") and rest[:1] == ["start.py"]:
        return None if rest[1:2] in ([], ["test"], ["setup"]) else f"start.py has no {rest[1]!r}"
    if program == "python" and rest[:1] == ["-m"]:
        return None if importlib.util.find_spec(rest[1]) else f"no module {rest[1]}"
    if program == "pip":
        return None if rest[:1] == ["install"] else f"pip {rest[:1]}"
    return None if program in PLAIN else f"{program}: a program that tests/pages.py does not know"


def _heartwood_fault(words: list[str]) -> str | None:
    import typer
    from typer.main import get_command

    from heartwood.cli import app

    group: Any = get_command(app)
    words = [w for w in words if not w.startswith(">")]
    if not words or words[0].startswith("--"):
        return None if set(words) <= {"--help", "--install-completion", "--show-completion"} else f"heartwood {words}"
    while hasattr(group, "commands"):
        if not words or words[0] not in group.commands:
            return f"no verb {words[:1]}"
        name, *words = words
        group = group.commands[name]
    if "--help" in words:
        return None
    try:
        group.make_context(name, words)
    except (typer.Exit, SystemExit):
        return None
    except Exception as error:
        return f"heartwood {name} {shlex.join(words)}: {error or type(error).__name__}"
    return None


def _dvc_fault(words: list[str], root: Path) -> str | None:
    from dvc.cli import DvcParserError, parse_args

    # DVC logs the fault too, to a stream that may be that of an earlier test and closed by now.
    logger = logging.getLogger("dvc.cli.parser")
    before, logger.disabled = logger.disabled, True
    try:
        parse_args(words)
    except (DvcParserError, SystemExit) as error:
        return f"dvc {shlex.join(words)}: {error}"
    finally:
        logger.disabled = before
    overrides = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-S", "--set-param")]
    return _params_fault(overrides, root)


def _params_fault(overrides: list[str], root: Path) -> str | None:
    """Whether params.yaml, with the values of ``-S``, is still what the schema allows; a sweep's values one by one."""
    import tempfile

    import jsonschema
    from dvc.utils.hydra import apply_overrides

    from pipelines.settings.schema import json_schema

    values = {
        key: [v] if v.startswith("[") else v.split(",")
        for key, _, v in (override.partition("=") for override in overrides)
    }
    first = {key: options[0] for key, options in values.items()}
    for asked in ({**first, key: option} for key, options in values.items() for option in options):
        with tempfile.TemporaryDirectory() as folder:
            params = Path(folder) / "params.yaml"
            params.write_bytes((root / "params.yaml").read_bytes())
            try:
                apply_overrides(str(params), [f"{key}={value}" for key, value in asked.items()])
                jsonschema.validate(YAML(typ="safe", pure=True).load(params.read_text()), json_schema())
            except Exception as error:
                return f"-S {asked}: {str(error).splitlines()[0]}"
    return None


def run_block(block: Block, folder: Path, env: dict[str, str]) -> str | None:
    """Run a block as a person's shell would, in a folder; what went wrong, or None."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == block.exit_code:
        return None
    return (
        f"{block.page}, line {block.line}: exit code {done.returncode}, expected {block.exit_code}\n{block.text}\n"
        f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    )
