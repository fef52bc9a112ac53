import copy
import shutil

import pytest
from dvc.utils.serialize import modify_yaml

from curation.dedup import DedupSettings
from curation.errors import HeartwoodError
from curation.leakage import KINDS, LeakageSettings
from curation.mixture import resolve_shares
from pipelines.settings.curation import (
    DedupParams,
    LeakageParams,
    RawParams,
    RecordsParams,
    SourceParams,
    SplitParams,
    ValidateParams,
    parse_sources,
)
from pipelines.settings.evaluation import CompareParams, JudgeParams, PromptsParams, ReportParams, RespondParams
from pipelines.settings.mixture import ChatParams, MixSettings, parse_mix
from pipelines.settings.strict import SECTIONS, parse_section, read_params
from pipelines.settings.training import BaseParams, CheckpointParams, SftParams

MODELS = {
    "raw": RawParams,
    "sources": SourceParams,
    "records": RecordsParams,
    "split": SplitParams,
    "dedup": DedupParams,
    "leakage": LeakageParams,
    "validate": ValidateParams,
    "chat": ChatParams,
    "prompts": PromptsParams,
    "base": BaseParams,
    "sft": SftParams,
    "checkpoints": CheckpointParams,
    "judge": JudgeParams,
    "respond": RespondParams,
    "compare": CompareParams,
    "report": ReportParams,
}
# Sections of named entries, each entry a section of its own.
ENTRIES = ("sources", "checkpoints")
SOURCES = ("empathetic_dialogues", "esconv", "goemotions")


@pytest.fixture(scope="module")
def shipped(repo_root):
    return read_params(repo_root / "params.yaml")


def place(path):
    """The section that a path stands in (an entry for sections of entries), and the keys below it."""
    section, *keys = path.split(".")
    return (f"{section}.{keys[0]}", keys[1:]) if section in ENTRIES else (section, keys)


def at(params, keys):
    for key in keys:
        params = params[key]
    return params


def parse(shipped, path, change):
    """The section of ``path``, its mapping that holds the last key changed by ``change(mapping, key)``."""
    where, keys = place(path)
    params = copy.deepcopy(at(shipped, where.split(".")))
    change(at(params, keys[:-1]), keys[-1])
    return parse_section(MODELS[where.split(".")[0]], params, where)


def refused(shipped, path, value):
    with pytest.raises(HeartwoodError) as error:
        parse(shipped, path, lambda mapping, key: mapping.update({key: value}))
    assert error.value.hint
    return str(error.value)


def leaves(params, path=""):
    for key, value in params.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from leaves(value, where)
        else:
            yield where


class TestShipped:
    def test_every_section_is_known_and_has_a_model(self, shipped):
        assert sorted(shipped) == sorted(SECTIONS)
        assert set(MODELS) | {"mix", "models"} == set(SECTIONS)

    @pytest.mark.parametrize("section", sorted(MODELS))
    def test_the_shipped_section_parses_and_keeps_its_values(self, shipped, section):
        entries = shipped[section] if section in ENTRIES else {"": shipped[section]}
        for name, entry in entries.items():
            where = f"{section}.{name}" if name else section
            assert parse_section(MODELS[section], entry, where).model_dump(exclude_unset=True) == entry

    def test_the_shipped_mixture_is_valid(self, shipped):
        settings, asked = parse_mix(shipped["mix"], shipped["sources"])
        assert (settings.size, settings.when_short) == (1200, "error")
        assert {name: float(share) for name, share in resolve_shares(asked).items()} == {
            "empathetic_dialogues": 0.5,
            "esconv": 0.3,
            "goemotions": 0.2,
        }

    def test_sections_fit_the_library(self, shipped):
        assert DedupSettings(**parse_section(DedupParams, shipped["dedup"], "dedup").model_dump()).bands == 32
        leakage = parse_section(LeakageParams, shipped["leakage"], "leakage")
        assert LeakageSettings(**leakage.detector.model_dump()).shingle_words == 4
        assert set(leakage.min_recall.model_dump()) == set(KINDS) - {"paraphrased"}

    def test_the_file_is_in_the_form_that_dvc_writes(self, repo_root, tmp_path):
        path = tmp_path / "params.yaml"
        shutil.copy(repo_root / "params.yaml", path)
        with modify_yaml(str(path)) as params:
            params["mix"]["esconv"] = 0.4
        with modify_yaml(str(path)) as params:
            params["mix"]["esconv"] = 0.3
        assert path.read_bytes() == (repo_root / "params.yaml").read_bytes()


class TestRefused:
    @pytest.mark.parametrize("section", sorted(set(MODELS) - set(ENTRIES)))
    def test_an_unknown_key_is_named_with_those_allowed(self, shipped, section):
        message = refused(shipped, f"{section}.surprise", 1)
        allowed = ", ".join(sorted(shipped[section]))
        assert message == f"params.yaml: unknown key {section}.surprise; allowed in {section}: {allowed}"

    @pytest.mark.parametrize("inner", ["leakage.detector", "leakage.min_recall", "sft.lora", "checkpoints.sft-100"])
    def test_an_unknown_key_of_an_inner_section_is_named_with_those_allowed_there(self, shipped, inner):
        message = refused(shipped, f"{inner}.surprise", 1)
        here = at(shipped, inner.split("."))
        assert message == f"params.yaml: unknown key {inner}.surprise; allowed in {inner}: {', '.join(sorted(here))}"

    @pytest.mark.parametrize(
        ("path", "value", "allowed"),
        [
            ("raw.location", 3, "string"),
            ("raw.location", "", "at least 1 character"),
            (
                "sources.esconv.format",
                "csv",
                "'empathetic_dialogues', 'goemotions', 'esconv', 'chat' or 'prompt_completion'",
            ),
            ("sources.esconv.path", 3, "string"),
            ("sources.esconv.path", "", "at least 1 character"),
            ("records.contact", True, "'mask', 'quarantine' or 'keep'"),
            ("records.max_quarantined", "5%", "number"),
            ("records.max_quarantined", 1.5, "less than or equal to 1"),
            ("split.seed", 0.5, "integer"),
            ("split.seed", -1, "greater than or equal to 0"),
            ("split.dev_share", -0.1, "greater than or equal to 0"),
            ("dedup.near_jaccard", 0, "greater than 0"),
            ("dedup.near_jaccard", float("nan"), "finite"),
            ("dedup.near_jaccard", "0.8", "number"),
            ("dedup.near_jaccard", True, "number"),
            ("dedup.permutations", 128.0, "integer"),
            ("dedup.permutations", True, "integer"),
            ("dedup.shingle_words", 0, "greater than or equal to 1"),
            ("leakage.generic", "drop", "'remove', 'strict' or 'keep'"),
            ("dedup.label_conflicts", "vote", "'keep', 'merge' or 'drop'"),
            ("leakage.detector.semantic_cosine", 1.01, "less than or equal to 1"),
            ("leakage.min_recall.truncated", 80, "less than or equal to 1"),
            ("validate.min_dev_rows", None, "integer"),
            ("chat.system", None, "string"),
            ("prompts.count", 1, "greater than or equal to 2"),
            ("base.revision", 123, "string"),
            ("base.name", "", "at least 1 character"),
            ("sft.context", 8, "greater than or equal to 16"),
            ("sft.warmup_ratio", 1.0, "less than 1"),
            ("sft.quantisation", "int8", "'nf4' or 'none'"),
            ("sft.lora.rank", 0, "greater than or equal to 1"),
            ("sft.lora.targets", [], "at least 1 item"),
            ("sft.lora.targets", "q_proj", "list"),
            ("checkpoints.sft-100.steps", 0, "greater than or equal to 1"),
            ("checkpoints.sft-100.learning_rate", 0, "greater than 0"),
            ("checkpoints.sft-100.parent", "", "at least 1 character"),
            ("respond.decoding", "beam", "'greedy' or 'sample'"),
            ("respond.temperature", 0, "greater than 0"),
            ("respond.temperature", float("inf"), "finite"),
            ("respond.top_p", 1.1, "less than or equal to 1"),
            ("respond.device", "gpu", "'auto', 'cpu' or 'cuda'"),
            ("judge.ratings", ["shipped"], "string"),
            ("compare.seed", "0", "integer"),
            ("report.model", "", "at least 1 character"),
        ],
    )
    def test_a_wrong_type_or_impossible_value_names_key_value_and_what_is_allowed(self, shipped, path, value, allowed):
        message = refused(shipped, path, value)
        assert message.startswith(f"params.yaml: {path} is {value!r}: ")
        assert allowed in message

    def test_every_key_that_is_missing_is_named(self, shipped):
        for path in leaves({k: v for k, v in shipped.items() if k in MODELS}):
            with pytest.raises(HeartwoodError, match=rf"^params\.yaml: {path} is missing$"):
                parse(shipped, path, lambda mapping, key: mapping.pop(key))

    @pytest.mark.parametrize(
        ("path", "value", "rule"),
        [
            ("split.dev_share", 0.85, "dev_share + test_share must stay under 1"),
            ("dedup.bands", 31, "bands must divide permutations (128)"),
        ],
    )
    def test_values_that_contradict_each_other_name_the_section_and_the_rule(self, shipped, path, value, rule):
        message = refused(shipped, path, value)
        assert message.startswith(f"params.yaml: {path.split('.')[0]} is ")
        assert str(value) in message
        assert message.endswith(rule)

    def test_a_section_that_is_no_mapping(self):
        with pytest.raises(HeartwoodError, match=r"params\.yaml: split is 3: should be a valid dictionary"):
            parse_section(SplitParams, 3, "split")

    def test_a_section_does_not_change_after_reading(self, shipped):
        parsed = parse_section(SplitParams, shipped["split"], "split")
        with pytest.raises(ValueError, match="frozen"):
            parsed.seed = 1


class TestSources:
    def refused(self, value):
        with pytest.raises(HeartwoodError) as error:
            parse_sources(value)
        assert error.value.hint
        return str(error.value)

    @pytest.mark.parametrize("fmt", ["chat", "prompt_completion"])
    def test_peoples_own_formats_need_a_path(self, fmt):
        assert parse_sources({"mine": {"format": fmt, "path": "../x"}})["mine"].path == "../x"
        message = self.refused({"mine": {"format": fmt}})
        assert message.startswith("params.yaml: sources.mine.path is None: needed: the file or folder")

    @pytest.mark.parametrize("fmt", ["empathetic_dialogues", "goemotions"])
    def test_corpora_of_several_files_have_none(self, fmt):
        message = self.refused({"mine": {"format": fmt, "path": "../x"}})
        assert message.startswith("params.yaml: sources.mine.path is '../x': not allowed")

    def test_esconv_may_have_one(self):
        found = parse_sources({"a": {"format": "esconv"}, "b": {"format": "esconv", "path": "x.json"}})
        assert {name: source.path for name, source in found.items()} == {"a": None, "b": "x.json"}

    def test_an_unknown_key_is_named_with_those_allowed(self):
        message = self.refused({"mine": {"format": "esconv", "surprise": 1}})
        assert (
            message == "params.yaml: unknown key sources.mine.surprise; allowed in sources.mine: format, license, path"
        )

    @pytest.mark.parametrize(
        "source", [{"format": "esconv"}, {"format": "goemotions"}, {"format": "empathetic_dialogues"}]
    )
    def test_a_source_with_a_path_may_state_its_licence_and_no_other(self, source):
        mine = {"format": "chat", "path": "../x"}
        assert parse_sources({"mine": {**mine, "license": "CC-BY-4.0"}})["mine"].license == "CC-BY-4.0"
        assert parse_sources({"mine": mine})["mine"].license is None
        with pytest.raises(HeartwoodError, match=r"sources\.a\.license is 'MIT': not allowed: the terms of a source"):
            parse_sources({"a": {**source, "license": "MIT"}})
        with pytest.raises(HeartwoodError, match=r"sources\.mine\.license"):
            parse_sources({"mine": {**mine, "license": ""}})

    @pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "a.b", "-a", "manifest.json", 7, None, "é"])
    def test_a_name_that_is_no_folder_and_no_key_is_refused(self, name):
        assert "is no name; allowed: letters, digits, _ and -" in self.refused({"a": {"format": "esconv"}, name: {}})

    @pytest.mark.parametrize("value", [None, {}, [], "esconv"])
    def test_no_entries(self, value):
        assert "allowed: named entries" in self.refused(value)


class TestFile:
    def read(self, tmp_path, data):
        path = tmp_path / "params.yaml"
        path.write_bytes(data)
        with pytest.raises(HeartwoodError) as error:
            read_params(path)
        assert error.value.hint
        return str(error.value)

    def test_an_unknown_section_is_named_with_those_allowed(self, tmp_path):
        message = self.read(tmp_path, b"raw:\n  location: x\nsplits: {}\n")
        assert message == f"params.yaml: unknown section 'splits'; allowed: {', '.join(SECTIONS)}"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(HeartwoodError, match=r"params\.yaml: missing"):
            read_params(tmp_path / "params.yaml")

    @pytest.mark.parametrize("data", [b"raw: [1", b"raw: 1\nraw: 2\n", b"raw: \xe9\n"])
    def test_what_is_not_yaml(self, tmp_path, data):
        assert f"{tmp_path / 'params.yaml'}: not " in self.read(tmp_path, data)

    @pytest.mark.parametrize(("data", "found"), [(b"", "NoneType"), (b"- raw\n", "list")])
    def test_what_holds_no_sections(self, tmp_path, data, found):
        assert f"expected sections, found {found}" in self.read(tmp_path, data)

    def test_yaml_1_2_reads_words_as_words(self, tmp_path):
        path = tmp_path / "params.yaml"
        path.write_text("raw:\n  location: no\nsplit:\n  dev_share: 1e-2\n")
        assert read_params(path) == {"raw": {"location": "no"}, "split": {"dev_share": 0.01}}


MIX = {"size": 10, "seed": 0, "when_short": "error", "unit": "examples", "temperature": "none"}


class TestMix:
    def test_a_source_that_is_not_named_has_share_zero(self):
        settings, shares = parse_mix({**MIX, "esconv": 0.4, "goemotions": "rest"}, SOURCES)
        assert shares == {"empathetic_dialogues": 0, "esconv": 0.4, "goemotions": "rest"}
        assert settings.model_dump() == {**MIX, "temperature": None}

    def test_an_unknown_source_is_named_with_what_is_allowed(self):
        with pytest.raises(HeartwoodError) as error:
            parse_mix({**MIX, "reddit": 0.4}, SOURCES)
        assert str(error.value) == (
            "params.yaml: mix.reddit is neither a setting nor a source;"
            f" allowed: seed, size, temperature, unit, when_short, {', '.join(SOURCES)}"
        )
        assert error.value.hint

    @pytest.mark.parametrize("name", sorted(MixSettings.model_fields))
    def test_a_source_may_not_have_a_reserved_name(self, name):
        with pytest.raises(
            HeartwoodError, match=rf"sources\.{name}: the name is reserved .*seed, size, temperature, unit, when_short"
        ):
            parse_mix(MIX, [*SOURCES, name])

    @pytest.mark.parametrize("section", [None, [], "rest", 0.4])
    def test_a_mix_that_is_no_mapping(self, section):
        with pytest.raises(HeartwoodError, match=r"params\.yaml: mix is .*allowed: keys and shares"):
            parse_mix(section, SOURCES)

    def test_keys_that_are_no_names_are_refused(self):
        with pytest.raises(HeartwoodError, match=r"mix\."):
            parse_mix({**MIX, 1: 0.5, "reddit": 0.5}, SOURCES)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("size", 0),
            ("size", 12.5),
            ("size", True),
            ("size", 10**12),
            ("seed", -1),
            ("when_short", "wrap"),
            ("unit", "rows"),
            ("temperature", 0),
            ("temperature", -1.0),
            ("temperature", 1e9),
            ("temperature", float("nan")),
            ("temperature", "1"),
            ("temperature", None),
            ("temperature", True),
            ("temperature", 10**400),
        ],
    )
    def test_settings_are_strict(self, key, value):
        with pytest.raises(HeartwoodError, match=rf"params\.yaml: mix\.{key} is {value!r}: "):
            parse_mix({**MIX, key: value}, SOURCES)

    def test_a_missing_setting_is_named(self):
        with pytest.raises(HeartwoodError, match=r"params\.yaml: mix\.size is missing"):
            parse_mix({k: v for k, v in MIX.items() if k != "size"}, SOURCES)

    @pytest.mark.parametrize(("value", "parsed"), [("none", None), (1, 1.0), (0.5, 0.5)])
    def test_a_temperature_is_none_or_a_number(self, value, parsed):
        assert parse_mix({**MIX, "temperature": value}, SOURCES)[0].temperature == parsed
