"""A release: written of a real DVC repository, loaded by the libraries of its formats, checked by itself, forged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from heartwood.cli import app
from pipelines.provenance.export import statement
from pipelines.provenance.export.check import verify_folder
from pipelines.provenance.hashing import hash_file
from tests.project import Project
from tests.provenance.released import build, read

MODELS = ("base", "sft-100", "sft-150")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def heartwood(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project; its tag ``first`` is what ``release`` was made of."""
    made = build(tmp_path_factory.mktemp("released"))
    made.run("git", "tag", "first")
    return made


def inside(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.folder)
    for key, value in made.env.items():
        monkeypatch.setenv(key, value)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def written(made: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "out"
    with pytest.MonkeyPatch.context() as patch:
        inside(made, patch)
        done = heartwood("export", "first", out, "--creator", "A person", "--url", "https://example.com/mix")
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def release(written: Path, tmp_path: Path) -> Path:
    """A copy of the release, far from any repository."""
    return Path(shutil.copytree(written, tmp_path / "release"))


def faults(folder: Path, key: Path | None = None) -> list[str]:
    return [f.message for v in verify_folder(folder, key).scores for f in v.faults]


def restate(folder: Path, **changes: Any) -> None:
    """Make the statement agree with the files again, as a forger would."""
    path = folder / statement.PLAIN
    content = read(path)
    predicate = {**content["predicate"], **changes}
    for name, entry in predicate["files"].items():
        entry |= {"sha256": hash_file(folder / name).sha256, "size": (folder / name).stat().st_size}
    for subject in content["subject"]:
        subject["digest"] = {"sha256": predicate["files"][subject["name"]]["sha256"]}
    path.write_text(json.dumps({**content, "predicate": predicate}), encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8", newline="\n")


def test_a_release_verifies_away_from_its_repository(
    release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = heartwood("verify", release, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)[str(release)]["scores"]
    assert [(v["model"], v["verdict"], v["faults"]) for v in found] == [(m, "verified", []) for m in MODELS]
    assert all(v["links_checked"] > 60 for v in found)


def test_the_same_revision_gives_the_same_bytes(
    made: Project, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(made, monkeypatch)
    done = heartwood("export", "first", tmp_path / "again", "--creator", "A person", "--url", "https://example.com/mix")
    assert done.exit_code == 0, done.output
    files = sorted(p.relative_to(written) for p in written.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert all((written / p).read_bytes() == (tmp_path / "again" / p).read_bytes() for p in files)


def test_mlcroissant_validates_the_metadata_and_loads_every_record(release: Path) -> None:
    import mlcroissant

    dataset = mlcroissant.Dataset(release / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    assert dataset.metadata.ctx.is_v1_1()
    rows = [json.loads(line) for line in (release / "data/mixture/train.jsonl").read_text().splitlines()]
    loaded = list(dataset.records("train"))
    assert [r["train/uid"].decode() for r in loaded] == [row["uid"] for row in rows]
    for record, row in zip(loaded, rows, strict=True):
        for column in ("prompt", "completion"):
            messages = [
                {part: m[f"train/{column}/{part}"].decode() for part in ("role", "content")}
                for m in record[f"train/{column}"]
            ]
            assert messages == row[column]
    assert len(list(dataset.records("dev"))) == len(list(dataset.records("prompts"))) == 8


def test_the_metadata_says_licence_origin_and_the_sha256_of_each_file(release: Path) -> None:
    content = read(release / "croissant.json")
    assert content["license"][0] == "https://creativecommons.org/licenses/by-nc/4.0/"
    assert "NonCommercial" in content["usageInfo"]
    assert content["creator"]["name"] == "A person"
    assert {e["@id"] for e in content["prov:wasDerivedFrom"]} == {
        "https://arxiv.org/abs/1811.00207",
        "https://arxiv.org/abs/2005.00547",
    }
    assert "DVC stage mix" in content["prov:wasGeneratedBy"]["prov:label"]
    for entry in content["distribution"]:
        assert entry["sha256"] == hash_file(release / entry["contentUrl"]).sha256


def test_the_statement_is_one_for_the_library_of_in_toto(release: Path) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    text = (release / "statement.json").read_text()
    parsed = Statement.copy_from_pb(json_format.Parse(text, statement_pb2.Statement()))
    parsed.validate()
    subjects = {s.name: s.digest["sha256"] for s in parsed.pb.subject}
    weights = [f"models/{m}/adapter_model.safetensors" for m in MODELS[1:]]
    assert subjects == {p: hash_file(release / p).sha256 for p in ("data/mixture/train.jsonl", *weights)}
    predicate = json.loads(text)["predicate"]
    inputs = predicate["chain"]["sft@sft-150"]["inputs"]
    wrote = predicate["chain"]["sft@sft-100"]["outputs"]["models/sft-100"]
    assert inputs["models/sft-100"] == wrote
    assert inputs["data/mixture/train.jsonl"]["sha256"] == subjects["data/mixture/train.jsonl"]
    assert {m: s["verified"]["verdict"] for m, s in predicate["scores"].items()} == dict.fromkeys(MODELS, "verified")


def test_the_cards_are_read_by_the_hubs_library_and_say_terms_scores_and_limits(release: Path) -> None:
    from huggingface_hub import DatasetCard, ModelCard

    card = DatasetCard.load(release / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert "NonCommercial, because of empathetic_dialogues" in card.text
    assert "academic, non-commercial research" in card.text
    assert "| sft-100 | 1.250 |" in card.text
    for name in MODELS[1:]:
        model = ModelCard.load(release / f"models/{name}/README.md")
        assert model.data.base_model == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
        assert model.data.license == "cc-by-nc-4.0"
        assert model.data.eval_results[0].metric_value == read(release / f"reports/eq/{name}.json")["index"]
        assert "TinyLlama-1.1B-Chat-v1.0 | [Apache-2.0]" in model.text


def test_a_changed_byte_in_any_file_is_found(release: Path) -> None:
    files = sorted(read(release / "statement.json")["predicate"]["files"])
    assert len(files) > 30
    for name in files:
        path = release / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        found = verify_folder(release).scores
        assert {v.verdict for v in found} == {"broken"}, name
        assert name in found[0].first.message
        path.write_bytes(content)
    assert not faults(release)


def test_a_missing_and_an_added_file_are_found_and_git_is_left_alone(release: Path) -> None:
    (release / ".git").mkdir()
    (release / ".git/HEAD").write_text("x")
    (release / ".gitattributes").write_text("x")
    assert not faults(release)
    (release / "data/more.jsonl").write_text("{}\n")
    assert faults(release)[0] == "data/more.jsonl: the statement does not know it"
    (release / "data/more.jsonl").unlink()
    (release / "data/dev.jsonl").unlink()
    assert faults(release)[0] == "data/dev.jsonl: missing"


def lock_too(release: Path, path: str) -> None:
    """Make ``dvc.lock`` say of a file what it is now, wherever it stands."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    lock = yaml.load((release / "dvc.lock").read_text())
    for stage in lock["stages"].values():
        for entry in (*stage.get("deps", []), *stage.get("outs", [])):
            if entry["path"] == path:
                entry["md5"] = hash_file(release / path).md5
    with (release / "dvc.lock").open("w") as handle:
        yaml.dump(lock, handle)


def card_number(release: Path) -> None:
    replace(release / "README.md", "| sft-100 | 1.250 |", "| sft-100 | 3.250 |")


def card_licence(release: Path) -> None:
    replace(release / "models/sft-100/README.md", "license: cc-by-nc-4.0", "license: apache-2.0")


def card_verdict(release: Path) -> None:
    replace(release / "README.md", "| 8 | verified |", "| 8 | certified |")


def score_digit(release: Path) -> None:
    replace(release / "reports/eq/sft-100.json", '"index": 1.25', '"index": 1.75')


def score_digit_and_lock(release: Path) -> None:
    score_digit(release)
    lock_too(release, "reports/eq/sft-100.json")


def rating(release: Path) -> None:
    replace(release / "reports/eq/sft-100.ratings.jsonl", '"index": 1.375', '"index": 1.0')
    lock_too(release, "reports/eq/sft-100.ratings.jsonl")


def contrast(release: Path) -> None:
    replace(release / "reports/comparison.json", '"verdict": "worse"', '"verdict": "improved"')
    lock_too(release, "reports/comparison.json")


def mixture_row(release: Path) -> None:
    replace(release / "data/mixture/train.jsonl", "I am sorry about day 1", "I am glad about day 1")


def mixture_row_and_lock(release: Path) -> None:
    mixture_row(release)
    lock_too(release, "data/mixture/train.jsonl")


def weights(release: Path) -> None:
    (release / "models/sft-150/adapter_model.safetensors").write_bytes(b"other weights")


def lock_link(release: Path) -> None:
    text = (release / "dvc.lock").read_text()
    md5 = hash_file(release / "data/mixture/train.jsonl").md5
    assert text.count(md5) == 3  # mix wrote it, both checkpoints read it
    head, _, tail = text.rpartition(md5)
    (release / "dvc.lock").write_text(f"{head}{'a' * 32}{tail}")


def croissant_sha(release: Path) -> None:
    sha = hash_file(release / "data/dev.jsonl").sha256
    replace(release / "croissant.json", sha, "0" * 64)


def croissant_licence(release: Path) -> None:
    replace(release / "croissant.json", "https://creativecommons.org/licenses/by-nc/4.0/", "https://mit.example")


def lineage(release: Path) -> None:
    path = "data/responses/base.lineage.json"
    replace(release / path, hash_file(release / "data/prompts.jsonl").sha256, "0" * 64)
    lock_too(release, path)


def receipt(release: Path) -> None:
    replace(release / "reports/mixture.json", '"goemotions": 4', '"goemotions": 5')
    lock_too(release, "reports/mixture.json")


def source_licence(release: Path) -> None:
    # "It is the embedded corpus": the params of the lock decide, and the cards are written from them.
    replace(release / "dvc.lock", "location: /corpora", "location: data/embedded")


FORGERIES: list[tuple[Callable[[Path], None], str]] = [
    (card_number, "README.md, line"),
    (card_licence, "models/sft-100/README.md, line 2: says 'license: apache-2.0'"),
    (card_verdict, "README.md, line"),
    (score_digit, "reports/eq/sft-100.json is"),
    (score_digit_and_lock, "index is 1.75, its ratings give 1.25"),
    (rating, "its ratings give"),
    (contrast, "verdict of sft-100 against base is improved, the ratings give worse"),
    (mixture_row, "data/mixture/train.jsonl is"),
    (mixture_row_and_lock, "examples_sha256"),
    (weights, "models/sft-150 is"),
    (lock_link, f"read data/mixture/train.jsonl as {'a' * 32}"),
    (croissant_sha, f"croissant.json: data/dev.jsonl has sha256 {'0' * 64}"),
    (croissant_licence, "croissant.json, license > 1: says 'https://mit.example'"),
    (lineage, "data/responses/base.lineage.json: data/prompts.jsonl has sha256"),
    (receipt, "reports/mixture.json: rows are"),
    (source_licence, "> raw > location: says '/corpora', the files give 'data/embedded'"),
]


@pytest.mark.parametrize(("forge", "message"), FORGERIES, ids=[f.__name__ for f, _ in FORGERIES])
def test_a_forgery_that_fits_the_statements_digests_is_found(
    release: Path, forge: Callable[[Path], None], message: str
) -> None:
    forge(release)
    restate(release)
    found = verify_folder(release).scores
    assert "broken" in {v.verdict for v in found}
    assert message in " ".join(faults(release))


def test_junk_in_the_place_of_any_file_is_broken_and_no_crash(release: Path) -> None:
    files = sorted(p for p in read(release / "statement.json")["predicate"]["files"] if not p.endswith(".safetensors"))
    for number, name in enumerate(files):
        path = release / name
        content = path.read_bytes()
        path.write_bytes((b"[]", b"{}\n", b"a: [\xff", b"null", b"")[number % 5])
        restate(release)
        assert "broken" in {v.verdict for v in verify_folder(release).scores}, name
        path.write_bytes(content)


def test_a_changed_link_or_score_in_the_statement_is_found(release: Path) -> None:
    predicate = read(release / "statement.json")["predicate"]
    chain = json.loads(json.dumps(predicate["chain"]))
    chain["sft@sft-100"]["inputs"]["data/mixture/train.jsonl"]["md5"] = "0" * 32
    restate(release, chain=chain)
    assert "statement, chain > sft@sft-100 > inputs > data/mixture/train.jsonl > md5: says" in faults(release)[0]
    scores = json.loads(json.dumps(predicate["scores"]))
    scores["base"]["index"] = 4.5
    restate(release, chain=predicate["chain"], scores=scores)
    assert "statement, scores > base > index: says '4.5', the files give '2.5'" in faults(release)[0]


def test_a_statement_about_other_subjects_or_paths_outside_is_refused(release: Path) -> None:
    content = read(release / "statement.json")
    fewer = {**content, "subject": content["subject"][:1]}
    (release / "statement.json").write_text(json.dumps(fewer))
    assert "the subjects are" in faults(release)[0]
    content["predicate"]["files"]["../secret"] = {"sha256": "0", "size": 1}
    (release / "statement.json").write_text(json.dumps(content))
    assert faults(release)[0] == "../secret: a path outside the release"


def test_a_signature_is_checked_with_the_key_and_asked_for_without(
    made: Project, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(made, monkeypatch)
    out = tmp_path / "signed"
    done = heartwood("export", "first", out, "--sign", keys / "mine.pem")
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(tmp_path)
    assert not (out / "statement.json").exists()
    assert heartwood("verify", out, "--key", keys / "mine.pub").exit_code == 0
    unchecked = heartwood("verify", out)
    assert unchecked.exit_code == 2
    assert "--key PUB.pem checks by whom" in unchecked.stdout
    wrong = heartwood("verify", out, "--key", keys / "other.pub")
    assert wrong.exit_code == 1
    assert "it is not signed by" in wrong.stdout
    # Not the statement that was signed: one letter of the payload.
    envelope = read(out / "statement.dsse.json")
    payload = envelope["payload"]
    envelope["payload"] = payload[:400] + ("A" if payload[400] != "A" else "B") + payload[401:]
    (out / "statement.dsse.json").write_text(json.dumps(envelope))
    forged = heartwood("verify", out, "--key", keys / "mine.pub")
    assert forged.exit_code == 1


def test_a_signature_that_was_taken_off_is_missed(release: Path, keys: Path) -> None:
    assert "it is not signed" in faults(release, keys / "mine.pub")[0]
    assert {v.verdict for v in verify_folder(release, keys / "mine.pub").scores} == {"broken"}


def test_keys_that_are_none_are_said_plainly(
    made: Project, keys: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(made, monkeypatch)
    (tmp_path / "no.pem").write_text("no key")
    for bad in (tmp_path / "no.pem", tmp_path / "absent.pem", keys / "mine.pub"):
        done = heartwood("export", "first", tmp_path / "x", "--sign", bad)
        assert done.exit_code == 1
        assert str(bad) in done.stderr
        assert not (tmp_path / "x").exists()
    done = heartwood("verify", release, "--key", keys / "mine.pem")
    assert done.exit_code == 0 or "key" in done.stderr + done.stdout


def test_another_revision_is_exported_from_the_cache_while_the_workspace_is_elsewhere(
    made: Project, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Project(tmp_path / "project", tmp_path / "state")
    shutil.copytree(made.folder, copy.folder)
    replace(copy.folder / "params.yaml", "  goemotions: 4", "  goemotions: 4\n  mine: 2")
    copy.dvc("repro", "-q")
    copy.commit("with mine")
    inside(copy, monkeypatch)
    for name in ("first", "HEAD"):
        done = heartwood("export", name, tmp_path / name, "--creator", "A person", "--url", "https://example.com/mix")
        assert done.exit_code == 0, done.output
        assert not faults(tmp_path / name)
    assert (tmp_path / "first/statement.json").read_bytes() == (written / "statement.json").read_bytes()
    card = (tmp_path / "HEAD/README.md").read_text()
    assert "license: other\n" in card
    assert "The licence of mine is not stated: do not redistribute until you know the terms." in card
    # Its adapters had no row of it: what was consumed decides about a model.
    assert "license: cc-by-nc-4.0" in (tmp_path / "HEAD/models/sft-100/README.md").read_text()


def test_a_score_that_is_not_verified_needs_to_be_allowed_and_everything_says_so(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Project(tmp_path / "project", tmp_path / "state")
    shutil.copytree(made.folder, copy.folder)
    replace(copy.folder / "params.yaml", "  goemotions: 4", "  goemotions: 3")
    copy.dvc("repro", "-q", "mix")
    copy.commit("a mixture that nobody has trained on")
    inside(copy, monkeypatch)
    out = tmp_path / "out"
    refused = heartwood("export", out)
    assert refused.exit_code == 1
    assert "is stale, not verified" in refused.stderr
    assert "--allow-unverified" in refused.stderr
    assert not out.exists()
    done = heartwood("export", out, "--allow-unverified")
    assert done.exit_code == 0, done.output
    verdicts = {v.model: v.verdict for v in verify_folder(out).scores}
    assert verdicts == {"base": "verified", "sft-100": "stale", "sft-150": "stale"}
    assert heartwood("verify", out).exit_code == 1
    for card in ("README.md", "models/sft-100/README.md"):
        assert "> **Not verified.**" in (out / card).read_text()
    model = (out / "models/sft-100/README.md").read_text()
    assert "trained on another mixture" in model
    assert "license: other" in model
    said = read(out / "statement.json")["predicate"]["scores"]["sft-100"]["verified"]
    assert said["verdict"] == "stale"
    assert said["faults"]
    # Nobody gets rid of it by calling it verified.
    predicate = read(out / "statement.json")["predicate"]
    for score in predicate["scores"].values():
        score["verified"] = {**score["verified"], "verdict": "verified", "faults": []}
    restate(out, scores=predicate["scores"])
    assert {v.model: v.verdict for v in verify_folder(out).scores}["sft-100"] == "broken"


def test_a_clone_without_cache_says_what_is_missing(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Project(tmp_path / "clone", tmp_path / "state")
    made.run("git", "clone", "-q", str(made.folder), str(clone.folder))
    inside(clone, monkeypatch)
    done = heartwood("export", tmp_path / "out")
    assert done.exit_code == 1
    assert "data/mixture/train.jsonl of HEAD" in done.stderr
    assert "not in DVC's cache" in done.stderr
    assert "dvc fetch" in done.stderr
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_a_folder_that_is_not_free_or_that_git_would_track_is_refused(
    made: Project, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(made, monkeypatch)
    for folder, message in ((release, "is there already"), (made.folder / "release", "is inside the repository")):
        done = heartwood("export", folder)
        assert done.exit_code == 1
        assert message in done.stderr
    done = heartwood("export", "out/ignored")
    assert done.exit_code == 0, done.output
    shutil.rmtree(made.folder / "out")
    done = heartwood("export", "no-such", tmp_path / "x")
    assert (done.exit_code, "no-such" in done.stderr) == (1, True)


def test_a_folder_without_statement_is_no_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Project
) -> None:
    from curation.errors import HeartwoodError

    with pytest.raises(HeartwoodError, match="holds neither"):
        verify_folder(tmp_path)
    (tmp_path / "statement.json").write_text("{}")
    with pytest.raises(HeartwoodError, match="not an in-toto statement"):
        verify_folder(tmp_path)
