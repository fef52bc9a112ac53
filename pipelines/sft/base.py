"""The base pointer: which base model a checkpoint is built on, down to the bytes of every file that is loaded.

A pointer is small JSON (``models/base.json``) and is copied into every adapter folder, so that an adapter can
name, and its user can re-hash, the exact weights, tokenizer and chat template that it was trained on.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from curation.errors import HeartwoodError

POINTER_SCHEME = "base-v1"
POINTER_FILE = "base.json"

_LOADED_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt")
_WEIGHTS = ".safetensors"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SAMPLE_CHAT = [
    {"role": "system", "content": "Listen first."},
    {"role": "user", "content": "I am sad."},
    {"role": "assistant", "content": "I am sorry."},
]


@dataclass(frozen=True)
class BasePointer:
    """A base model, named and hashed.

    ``name`` is a local folder as given (``models/base``) or a hub id; ``revision`` the hub commit, None for a
    folder. ``files`` maps each file that loading reads to its sha256; ``digest`` is the sha256 of the canonical
    JSON of ``files``. ``parameters`` counts logical weights, tied embeddings once. ``pad_token`` is never eos.
    """

    name: str
    revision: str | None
    files: dict[str, str]
    digest: str
    parameters: int
    architecture: str
    has_chat_template: bool
    pad_token: str

    def to_json(self) -> str:
        """The pointer as JSON: sorted keys, two spaces, LF, one newline at the end."""
        content = {"scheme": POINTER_SCHEME, **asdict(self)}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = POINTER_FILE) -> BasePointer:
        """Read a pointer; ``where`` names the file in errors.

        Raises HeartwoodError when it is not JSON, has other keys, another scheme, or a digest that its own
        list of files contradicts.
        """
        hint = "write it again with: dvc repro base"
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise HeartwoodError(f"{where} is not JSON: {error}", hint=hint) from error
        if not isinstance(content, dict):
            raise HeartwoodError(f"{where} holds a {type(content).__name__}, not a JSON object", hint=hint)
        wanted = {"scheme", *(field.name for field in fields(cls))}
        if set(content) != wanted:
            odd = sorted(set(content) ^ wanted)
            raise HeartwoodError(f"{where} is no base pointer: missing or unknown keys {odd}", hint=hint)
        scheme = content.pop("scheme")
        if scheme != POINTER_SCHEME:
            raise HeartwoodError(f"{where}: scheme is {scheme!r}, allowed: {POINTER_SCHEME!r}", hint=hint)
        pointer = cls(**content)
        if files_digest(pointer.files) != pointer.digest:
            raise HeartwoodError(
                f"{where} contradicts itself: digest is {pointer.digest}, its files give {files_digest(pointer.files)}",
                hint=hint,
            )
        return pointer


def files_digest(files: dict[str, str]) -> str:
    """Sha256 over the canonical JSON (sorted keys, no spaces) of ``{path: sha256}``."""
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def pointer_path(model: Path) -> Path:
    """The pointer file of a model reference: the file itself, or ``base.json`` inside an adapter folder.

    Raises HeartwoodError when there is neither.
    """
    path = model / POINTER_FILE if model.is_dir() else model
    if not path.is_file():
        raise HeartwoodError(
            f"model {model}: {path} does not exist",
            hint="give models/base.json or an adapter folder that holds base.json; dvc repro makes both",
        )
    return path


def read_pointer(model: Path) -> BasePointer:
    """The base pointer of a model reference (``models/base.json`` or an adapter folder)."""
    path = pointer_path(model)
    return BasePointer.from_json(path.read_text(encoding="utf-8"), where=str(path))


def resolve_base(name: str, revision: str | None = None, *, root: Path = Path()) -> BasePointer:
    """Name and hash a base model.

    ``name`` is a folder (relative to ``root``) with ``revision`` None, or a hub id with ``revision`` a 40-hex
    commit, which is then downloaded into the hub cache (safetensors, JSON, tokenizer and template files only).
    Weights are not loaded: their headers give the parameter count.

    Raises HeartwoodError for a missing folder or model, and for a model that cannot be used here: no
    safetensors, remote code, not a causal language model, already quantised, no chat template, an assistant
    turn that does not end in eos, no eos, no pad token distinct from eos, a tokenizer larger than the
    embedding.
    """
    folder = _folder(name, revision, root)
    files = _hash_files(folder)
    config = _checked_config(folder, name)
    parameters = _count_parameters(folder, name, config)
    pad_token = _checked_tokenizer(folder, name, config)
    return BasePointer(
        name=name,
        revision=revision,
        files=files,
        digest=files_digest(files),
        parameters=parameters,
        architecture=config["architectures"][0],
        has_chat_template=True,
        pad_token=pad_token,
    )


def locate(pointer: BasePointer, *, root: Path = Path()) -> Path:
    """The local folder of a pointer, after re-hashing every file in it that loading may read.

    A folder's name is relative to ``root``; a hub model comes from the hub cache, or is downloaded.
    Raises HeartwoodError when a file is missing, new or changed: names the file, expected and found sha256.
    """
    folder = _folder(pointer.name, pointer.revision, root)
    _check_files(pointer, folder, _hash_files(folder), pointer.files)
    return folder


def tokenizer_of(pointer: BasePointer, *, root: Path = Path()) -> Any:
    """The tokenizer of a pointer's base, after re-hashing every file but the weights, which it does not read.

    Raises HeartwoodError as ``locate`` does.
    """
    folder = _folder(pointer.name, pointer.revision, root)
    expected = {name: digest for name, digest in pointer.files.items() if not name.endswith(_WEIGHTS)}
    _check_files(pointer, folder, _hash_files(folder, weights=False), expected)
    return load_tokenizer(folder, pointer.pad_token)


def base_config(pointer: BasePointer, *, root: Path = Path()) -> dict[str, Any]:
    """The ``config.json`` of a pointer's base."""
    return _read_json(_folder(pointer.name, pointer.revision, root) / "config.json")


def pad_note(pointer: BasePointer, *, root: Path = Path()) -> str | None:
    """Why the pad token is not the tokenizer's own, in words; None where it is."""
    own = load_tokenizer(_folder(pointer.name, pointer.revision, root)).pad_token
    if own == pointer.pad_token:
        return None
    return (
        f"the tokenizer's own pad token is {own or 'missing'}{', its end of turn' if own else ''}: padding with"
        f" {pointer.pad_token} instead, so that the end of a turn stays in the loss"
    )


def _check_files(pointer: BasePointer, folder: Path, found: dict[str, str], expected: dict[str, str]) -> None:
    hint = "restore the file (dvc checkout, git checkout), or accept the new base with: dvc repro base"
    for path in sorted({*expected, *found}):
        expected_digest, found_digest = expected.get(path), found.get(path)
        if expected_digest != found_digest:
            raise HeartwoodError(
                f"base model {pointer.name} is not the one that was resolved: {folder / path}: "
                f"expected {expected_digest or 'no such file'}, found {found_digest or 'no such file'}",
                hint=hint,
            )


def load_tokenizer(folder: Path, pad_token: str | None = None) -> Any:
    """The tokenizer of a base folder, with ``pad_token`` set when given; no network, no remote code."""
    import transformers

    loader: Any = transformers.PreTrainedTokenizerFast if _is_plain_tokenizer(folder) else transformers.AutoTokenizer
    tokenizer = loader.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if pad_token is not None:
        tokenizer.pad_token = pad_token
    return tokenizer


def _is_plain_tokenizer(folder: Path) -> bool:
    """Whether ``AutoTokenizer`` would take ``tokenizer.json`` as it stands, without a class of its own for the model.

    It finds that out from the model's config, for which it imports torch: seconds, in stages that only count tokens.
    Of models other than Llama some are known to name the wrong class, so that only ``AutoTokenizer`` can say.
    """
    if not (folder / "tokenizer.json").is_file():
        return False
    named, config = (_read_json(folder / name) for name in ("tokenizer_config.json", "config.json"))
    return (
        named.get("tokenizer_class") in {"PreTrainedTokenizerFast", "TokenizersBackend"}
        and config.get("model_type") == "llama"
        and not {"auto_map", "model_name"} & {*named, *config}
    )


def _folder(name: str, revision: str | None, root: Path) -> Path:
    folder = root / name
    if revision is None:
        if folder.is_dir():
            return folder
        raise HeartwoodError(
            f"base model {name!r}: there is no folder {folder}",
            hint="give base.name an existing folder, or a hub id together with base.revision (a 40-hex commit)",
        )
    if not _COMMIT.fullmatch(revision):
        raise HeartwoodError(
            f"base.revision is {revision!r}, allowed: a commit of 40 lower-case hex digits",
            hint="copy the commit from the model's history page: a branch or tag can move",
        )
    if folder.is_dir():
        raise HeartwoodError(
            f"base model {name!r} is a folder here ({folder}) and base.revision is set as well",
            hint="remove base.revision to use the folder, or rename the folder to use the hub model",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = snapshot_download(name, revision=revision, allow_patterns=list(_LOADED_FILES), ignore_patterns=["*/*"])
    except HFValidationError as error:
        raise HeartwoodError(
            f"base.name is {name!r}, allowed: a folder or a hub id such as 'owner/model' ({error})",
            hint="correct base.name",
        ) from error
    except (OSError, ValueError) as error:
        raise HeartwoodError(
            f"cannot get base model {name!r} at revision {revision} from the hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            hint="check base.name, base.revision and the network, or put the model into a folder and name that",
        ) from error
    return Path(path)


def _hash_files(folder: Path, *, weights: bool = True) -> dict[str, str]:
    """Sha256 by name of the files that loading may read, with or without the weights."""
    paths = {path for pattern in _LOADED_FILES for path in folder.glob(pattern) if path.is_file()}
    digests = {}
    for path in sorted(paths):
        if weights or path.suffix != _WEIGHTS:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HeartwoodError(
            f"cannot read {path}: {error}", hint="complete the model folder, or name another base model"
        ) from error
    if not isinstance(content, dict):
        raise HeartwoodError(f"{path} is not a JSON object", hint="complete the model folder")
    return content


def _checked_config(folder: Path, name: str) -> dict[str, Any]:
    config = _read_json(folder / "config.json")
    if "auto_map" in config:
        raise HeartwoodError(
            f"base model {name!r} needs its own Python code (auto_map in config.json), which is never run here",
            hint="choose a model whose architecture is part of transformers",
        )
    if "quantization_config" in config:
        raise HeartwoodError(
            f"base model {name!r} is stored quantised (quantization_config in config.json)",
            hint="name the unquantised model: sft.quantisation quantises it when it is loaded",
        )
    architectures = config.get("architectures") or [None]
    if not str(architectures[0]).endswith("ForCausalLM"):
        raise HeartwoodError(
            f"base model {name!r}: architecture is {architectures[0]!r}, allowed: a causal language model "
            "(...ForCausalLM)",
            hint="name a chat model",
        )
    return config


def _count_parameters(folder: Path, name: str, config: dict[str, Any]) -> int:
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise HeartwoodError(
            f"base model {name!r} has no *.safetensors file in {folder}",
            hint="convert its weights with save_pretrained(..., safe_serialization=True); pickles are not loaded",
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = set(_read_json(index)["weight_map"].values()) - {shard.name for shard in shards}
        if missing:
            raise HeartwoodError(
                f"base model {name!r}: {index} names {sorted(missing)}, which {folder} does not hold",
                hint="complete the model folder",
            )
    sizes: dict[str, int] = {}
    for shard in shards:
        for tensor, entry in _safetensors_header(shard).items():
            if tensor != "__metadata__":
                sizes[tensor] = math.prod(entry["shape"])
    if config.get("tie_word_embeddings", False) and any(key.endswith("embed_tokens.weight") for key in sizes):
        sizes.pop("lm_head.weight", None)
    return sum(sizes.values())


def _safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file (8 bytes little-endian length, then JSON; safetensors format 0.x)."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError(f"header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
    except (struct.error, ValueError) as error:
        raise HeartwoodError(
            f"{path} is no safetensors file: {error}",
            hint="fetch it again (a Git LFS pointer in its place needs git lfs pull)",
        ) from error
    if not isinstance(header, dict):
        raise HeartwoodError(f"{path} is no safetensors file: header is no object", hint="fetch it again")
    return header


def _checked_tokenizer(folder: Path, name: str, config: dict[str, Any]) -> str:
    """Check that the tokenizer can format chats and stop; returns the pad token to use."""
    try:
        tokenizer = load_tokenizer(folder)
    except (OSError, ValueError, ImportError) as error:
        raise HeartwoodError(
            f"base model {name!r}: cannot load its tokenizer from {folder}: {error}",
            hint="the folder needs tokenizer.json and tokenizer_config.json",
        ) from error
    if not tokenizer.chat_template:
        raise HeartwoodError(
            f"base model {name!r} has no chat template",
            hint=f"name a chat model, or add chat_template.jinja to {folder}",
        )
    if tokenizer.eos_token is None:
        raise HeartwoodError(
            f"base model {name!r}: its tokenizer has no eos_token",
            hint=f"set eos_token in {folder / 'tokenizer_config.json'}",
        )
    pad_token: str | None = next(
        (token for token in (tokenizer.pad_token, tokenizer.unk_token) if token not in (None, tokenizer.eos_token)),
        None,
    )
    if pad_token is None:
        raise HeartwoodError(
            f"base model {name!r}: no pad token distinct from eos {tokenizer.eos_token!r} "
            f"(pad_token is {tokenizer.pad_token!r}, unk_token is {tokenizer.unk_token!r})",
            hint=f"set pad_token in {folder / 'tokenizer_config.json'}: padding with eos hides where a reply ends",
        )
    if len(tokenizer) > config.get("vocab_size", len(tokenizer)):
        raise HeartwoodError(
            f"base model {name!r}: its tokenizer has {len(tokenizer)} tokens, its embedding {config['vocab_size']}",
            hint="the tokenizer belongs to another model: put the right one into the folder",
        )
    _check_turn_end(tokenizer, name)
    _check_single_bos(tokenizer, name)
    return pad_token


def _check_single_bos(tokenizer: Any, name: str) -> None:
    ids = tokenizer.apply_chat_template(_SAMPLE_CHAT, tokenize=True, return_dict=False)
    bos = tokenizer.bos_token_id
    if bos is not None and bos != tokenizer.eos_token_id and list(ids).count(bos) > 1:
        raise HeartwoodError(
            f"base model {name!r}: a chat starts with two {tokenizer.bos_token!r}, or holds one at each turn",
            hint="remove bos_token from the chat template, or add_bos_token from tokenizer_config.json",
        )


def _check_turn_end(tokenizer: Any, name: str) -> None:
    prompt = tokenizer.apply_chat_template(
        _SAMPLE_CHAT[:-1], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    full = tokenizer.apply_chat_template(_SAMPLE_CHAT, tokenize=True, return_dict=False)
    if full[: len(prompt)] != prompt or tokenizer.eos_token_id not in full[len(prompt) :]:
        raise HeartwoodError(
            f"base model {name!r}: its chat template does not write a reply as the generation prompt, the reply "
            f"and eos {tokenizer.eos_token!r}",
            hint="name a chat model whose template ends each assistant turn with its eos token",
        )
