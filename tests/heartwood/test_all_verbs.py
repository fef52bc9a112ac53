"""What every verb keeps to, those to come included: help, exit codes, --json, 80 columns, errors with a next step."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from heartwood.cli import STORY, app
from heartwood.options import revision_names
from tests.project import Project

GROUP: Any = get_command(app)
VERBS = sorted(GROUP.commands)
# A verb of several, such as `eqbench run`, is walked one by one.
LEAVES = [f"{v} {n}" for v in VERBS for n in getattr(GROUP.commands[v], "commands", ())] + [
    v for v in VERBS if not hasattr(GROUP.commands[v], "commands")
]
# Arguments that end in an error, for verbs whose required arguments alone do not in an empty folder.
WRONG: dict[str, list[str]] = {}


def heartwood(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, list(arguments), prog_name="heartwood")


def wrong_arguments(verb: str) -> list[str]:
    """The required arguments of a verb, each the name of something that does not exist."""
    words: list[str] = []
    command = GROUP
    for name in verb.split():
        command = command.commands[name]
    for parameter in command.params:
        if parameter.required:
            words += [*parameter.opts[:1], "none.jsonl"] if parameter.opts[0].startswith("--") else ["none.jsonl"]
    return WRONG.get(verb, words)


def test_help_tells_every_verb_once_in_the_order_of_the_work() -> None:
    shown = heartwood("--help")
    assert shown.exit_code == 0
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    told = re.findall(r"^  (\w+)  +[A-Z]", shown.stdout, re.MULTILINE)
    assert sorted(told) == VERBS
    assert told == [name for names in STORY.values() for name in names if name in VERBS]
    assert "More:" not in shown.stdout, "give the verb a place in STORY"


@pytest.mark.parametrize("verb", LEAVES)
def test_help_fits_and_names_json_and_exit_codes(verb: str) -> None:
    shown = heartwood(*verb.split(), "--help")
    assert shown.exit_code == 0
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    text = " ".join(shown.stdout.split())
    assert re.search(r"Exit code 0: .+ 1: .+ 2: ", text)
    assert "--json" in text


@pytest.mark.parametrize("verb", LEAVES)
def test_an_error_is_a_message_and_the_next_step(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    done = heartwood(*verb.split(), *wrong_arguments(verb))
    assert done.exit_code == 1, done.output
    assert re.fullmatch(r"heartwood: .+\n  next: .+\n", done.stderr, re.DOTALL)
    assert "Traceback" not in done.output
    assert not done.stdout


def test_a_verb_that_is_none_names_the_nearest() -> None:
    done = heartwood("verfy")
    assert done.exit_code == 2
    assert "Did you mean 'verify'?" in done.stderr


def test_the_shell_completes_branches_tags_and_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Project(tmp_path / "project", tmp_path / "state")
    made.folder.mkdir()
    made.run("git", "init", "-q", "-b", "main")
    made.write("a", "a")
    made.commit()
    made.run("git", "tag", "eq/rest/base")
    commit = made.run("git", "rev-parse", "HEAD").stdout.strip()
    made.run("git", "update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/sft-100", "HEAD")
    monkeypatch.chdir(made.folder)
    assert revision_names("") == ["HEAD", "eq/rest/base", "main", "sft-100", "workspace"]
    assert revision_names("s") == ["sft-100"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_verbs(shell: str) -> None:
    words = {"COMP_WORDS": "heartwood ver", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "heartwood ver"}
    asked = {"_HEARTWOOD_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words}
    assert "verify" in CliRunner(env=asked).invoke(app, [], prog_name="heartwood").output
