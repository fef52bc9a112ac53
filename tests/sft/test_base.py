from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from curation.errors import HeartwoodError
from pipelines.sft.base import BasePointer, load_tokenizer, locate, read_pointer, resolve_base, tokenizer_of
from tests.tiny_model import build_tiny_base


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def _edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def test_pointer_names_and_hashes_what_loading_reads(base_json: Path, tiny_base: Path) -> None:
    pointer = read_pointer(base_json)
    assert set(pointer.files) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert pointer.architecture == "LlamaForCausalLM"
    assert pointer.has_chat_template
    assert pointer.pad_token == "<unk>"
    assert BasePointer.from_json(pointer.to_json()) == pointer
    assert locate(pointer) == tiny_base


def test_pointer_does_not_depend_on_where_the_folder_is(copy: Path, base_json: Path) -> None:
    moved = resolve_base("base", root=copy.parent)
    assert moved.name == "base"
    assert moved.digest == read_pointer(base_json).digest


@pytest.mark.parametrize("tie", [True, False])
def test_parameters_are_logical_and_tied_embeddings_count_once(tmp_path: Path, tie: bool) -> None:
    from transformers import AutoModelForCausalLM

    folder = build_tiny_base(tmp_path / "base", tie=tie)
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    assert resolve_base(str(folder)).parameters == sum(p.numel() for p in model.parameters())


def test_tied_head_stored_twice_counts_once(copy: Path, base_json: Path) -> None:
    weights = load_file(str(copy / "model.safetensors"))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, str(copy / "model.safetensors"), metadata={"format": "pt"})
    assert resolve_base(str(copy)).parameters == read_pointer(base_json).parameters


def test_pad_token_is_the_tokenizers_own_when_it_is_not_eos(copy: Path) -> None:
    _edit(copy / "tokenizer_config.json", pad_token="<s>")
    assert resolve_base(str(copy)).pad_token == "<s>"
    _edit(copy / "tokenizer_config.json", pad_token="</s>")
    assert resolve_base(str(copy)).pad_token == "<unk>"


def test_changed_missing_and_new_files_are_detected(copy: Path) -> None:
    pointer = resolve_base(str(copy))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(HeartwoodError, match=r"model\.safetensors: expected [0-9a-f]{64}, found [0-9a-f]{64}"):
        locate(pointer)
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(weights))
    locate(pointer)
    (copy / "special_tokens_map.json").write_text("{}")
    with pytest.raises(HeartwoodError, match=r"special_tokens_map\.json: expected no such file"):
        locate(pointer)
    (copy / "special_tokens_map.json").unlink()
    (copy / "generation_config.json").unlink()
    with pytest.raises(HeartwoodError, match="found no such file"):
        locate(pointer)


def test_the_tokenizer_alone_needs_no_weights_and_is_checked_too(copy: Path) -> None:
    pointer = resolve_base(str(copy))
    (copy / "model.safetensors").unlink()
    tokenizer = tokenizer_of(pointer)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<unk>", "</s>")
    _edit(copy / "tokenizer_config.json", pad_token="<s>")
    with pytest.raises(HeartwoodError, match=r"tokenizer_config\.json: expected [0-9a-f]{64}, found [0-9a-f]{64}"):
        tokenizer_of(pointer)


SHIPPED = Path(__file__).resolve().parents[2] / "models" / "base"
CHATS = [
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "I'm sad \u2014 na\u00efve \U0001f642 </s> x"},
    ],
    [{"role": "user", "content": "  two  spaces\n\nand <|user|> tags "}, {"role": "assistant", "content": ""}],
]


def described(tokenizer: Any) -> dict[str, Any]:
    return {
        "class": type(tokenizer),
        "backend": tokenizer.backend_tokenizer.to_str(),
        "special": tokenizer.special_tokens_map,
        "template": tokenizer.chat_template,
        "padding": (tokenizer.padding_side, tokenizer.truncation_side, tokenizer.model_max_length),
        "init": {k: v for k, v in tokenizer.init_kwargs.items() if k != "_from_auto"},
        "chats": [
            tokenizer.apply_chat_template(CHATS, tokenize=True, add_generation_prompt=asked, return_dict=False)
            for asked in (True, False)
        ],
    }


@pytest.mark.parametrize("class_name", ["PreTrainedTokenizerFast", "TokenizersBackend", None])
def test_the_tokenizer_is_the_one_that_transformers_chooses(copy: Path, class_name: str | None) -> None:
    from transformers import AutoTokenizer

    _edit(copy / "tokenizer_config.json", tokenizer_class=class_name)
    for folder in (copy, SHIPPED):
        chosen = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        assert described(load_tokenizer(folder)) == described(chosen)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"model_type": "qwen2"}),
        ("config.json", {"auto_map": {"AutoConfig": "x.Y"}}),
        ("config.json", {"model_name": "phi3"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "x.Y"]}}),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}),
        ("tokenizer_config.json", {"tokenizer_class": None}),
    ],
)
def test_where_the_class_depends_on_the_model_transformers_is_asked(
    copy: Path, monkeypatch: pytest.MonkeyPatch, file: str, changes: dict[str, object]
) -> None:
    from transformers import AutoTokenizer

    asked = []
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda folder, **_: asked.append(folder))
    load_tokenizer(copy)
    assert not asked
    _edit(copy / file, **changes)
    load_tokenizer(copy)
    assert asked == [str(copy)]


def test_checking_and_reading_the_shipped_tokenizer_needs_no_torch() -> None:
    program = (
        "import sys; from pathlib import Path; from pipelines.sft.base import resolve_base, tokenizer_of\n"
        "tokenizer_of(resolve_base('models/base')); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SHIPPED.parents[1], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_missing_folder_and_revision_errors(copy: Path) -> None:
    with pytest.raises(HeartwoodError, match="there is no folder") as caught:
        resolve_base("models/none")
    assert "base.revision" in caught.value.hint
    with pytest.raises(HeartwoodError, match="40 lower-case hex"):
        resolve_base("owner/model", "main")
    with pytest.raises(HeartwoodError, match="is a folder here"):
        resolve_base("base", "0" * 40, root=copy.parent)


def test_hub_download_is_pinned_and_restricted(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    calls = []

    def download(name: str, **options: object) -> str:
        calls.append((name, options))
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    pointer = resolve_base("owner/model", "a" * 40)
    assert (pointer.name, pointer.revision) == ("owner/model", "a" * 40)
    assert calls[0][1]["revision"] == "a" * 40
    assert "*.bin" not in calls[0][1]["allow_patterns"]
    assert "*.py" not in calls[0][1]["allow_patterns"]


def test_hub_failure_names_model_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(name: str, **options: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(HeartwoodError, match=r"'owner/model' at revision a{40}.*no route"):
        resolve_base("owner/model", "a" * 40)


def test_no_safetensors(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(HeartwoodError, match=r"no \*\.safetensors"):
        resolve_base(str(copy))


def test_not_really_safetensors(copy: Path) -> None:
    (copy / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(HeartwoodError, match="is no safetensors file") as caught:
        resolve_base(str(copy))
    assert "git lfs" in caught.value.hint


def test_missing_shard(copy: Path) -> None:
    index = {"weight_map": {"x": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(HeartwoodError, match="model-00002-of-00002"):
        resolve_base(str(copy))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "own Python code"),
        ({"quantization_config": {}}, "stored quantised"),
        ({"architectures": ["BertModel"]}, "'BertModel'"),
        ({"vocab_size": 5}, "its embedding 5"),
    ],
)
def test_unusable_config(copy: Path, changes: dict[str, object], message: str) -> None:
    _edit(copy / "config.json", **changes)
    with pytest.raises(HeartwoodError, match=message):
        resolve_base(str(copy))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template": None}, "no chat template"),
        ({"eos_token": None}, "no eos_token"),
        ({"unk_token": None}, "no pad token distinct from eos"),
        ({"unk_token": None, "pad_token": "</s>"}, "no pad token distinct from eos"),
        ({"chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}, "does not write a reply"),
    ],
)
def test_unusable_tokenizer(copy: Path, changes: dict[str, object], message: str) -> None:
    _edit(copy / "tokenizer_config.json", **changes)
    with pytest.raises(HeartwoodError, match=message):
        resolve_base(str(copy))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "holds a list"), ('{"name": "x"}', "missing or unknown keys")],
)
def test_unreadable_pointer(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(text)
    with pytest.raises(HeartwoodError, match=message):
        read_pointer(path)


def test_pointer_that_contradicts_itself_or_is_missing(base_json: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    shutil.copy(base_json, path)
    _edit(path, digest="0" * 64)
    with pytest.raises(HeartwoodError, match="contradicts itself"):
        read_pointer(path)
    with pytest.raises(HeartwoodError, match="does not exist"):
        read_pointer(tmp_path / "models" / "base.json")
