"""The embedded base model in models/base loads offline and speaks TinyLlama's chat format."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = Path(__file__).resolve().parents[1] / "models" / "base"

CHAT = [
    {"role": "system", "content": "You are a kind and attentive listener."},
    {"role": "user", "content": "I lost my job today."},
    {"role": "assistant", "content": "I am sorry."},
    {"role": "user", "content": "Thank you."},
]
RENDERED = (
    "<|system|>\nYou are a kind and attentive listener.</s>\n"
    "<|user|>\nI lost my job today.</s>\n"
    "<|assistant|>\nI am sorry.</s>\n"
    "<|user|>\nThank you.</s>\n"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AutoModelForCausalLM.from_pretrained(BASE, local_files_only=True, dtype=torch.float32).eval()
    torch.set_num_threads(threads)


def test_weights_are_one_safetensors_file_within_the_limit():
    weights = list(BASE.glob("*.safetensors"))
    assert [path.name for path in weights] == ["model.safetensors"]
    assert weights[0].stat().st_size <= 32_000_000


def test_special_tokens(tokenizer):
    assert tokenizer.is_fast
    assert (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token) == ("<unk>", "<s>", "</s>")
    assert tokenizer.pad_token == "<pad>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ids = tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>", "<|system|>"])
    assert len(set(ids)) == 3
    assert tokenizer.unk_token_id not in ids


def test_configs_agree_with_the_tokenizer(tokenizer):
    for name in ("config.json", "generation_config.json"):
        config = json.loads((BASE / name).read_text(encoding="utf-8"))
        for kind in ("bos", "eos", "pad"):
            assert config[f"{kind}_token_id"] == getattr(tokenizer, f"{kind}_token_id")
    assert json.loads((BASE / "config.json").read_text(encoding="utf-8"))["vocab_size"] == len(tokenizer)


def test_template_renders_tinyllamas_format(tokenizer):
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == RENDERED
    prompt = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert prompt == RENDERED + "<|assistant|>\n"


def test_template_and_plain_encoding_never_double_bos(tokenizer):
    templated = tokenizer.apply_chat_template(CHAT, return_dict=True)["input_ids"]
    assert templated == tokenizer(RENDERED)["input_ids"]
    assert templated.count(tokenizer.bos_token_id) == 0
    assert tokenizer("<s>hello")["input_ids"].count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("text", ["Hello,  there!", "Café – 12 €", "line\nbreak"])
def test_encoding_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_greedy_reply_is_text_that_ends_or_is_cut(model, tokenizer):
    chat = [{"role": "user", "content": "I lost my job today."}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, do_sample=False, max_new_tokens=64)
    reply = output[0, inputs["input_ids"].shape[1] :].tolist()
    assert reply[-1] == tokenizer.eos_token_id or len(reply) == 64
    assert tokenizer.pad_token_id not in reply
    assert tokenizer.decode(reply, skip_special_tokens=True).strip()


def test_padded_batch_gives_the_same_next_token(model, tokenizer):
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in ("Hello!", "My sister and I had a long talk about the old house last night.")
    ]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    assert batch["attention_mask"][0, 0] == 0
    together = model.generate(**batch, do_sample=False, max_new_tokens=1)[:, -1]
    alone = [
        model.generate(**tokenizer(prompt, return_tensors="pt"), do_sample=False, max_new_tokens=1)[0, -1]
        for prompt in prompts
    ]
    assert together.tolist() == [int(token) for token in alone]
