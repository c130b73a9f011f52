"""Makes checkpoints of the forms that people have, and says what Transformers computes with each.

    people.py CHECKPOINT TEXT TEXTS OUT

CHECKPOINT is a folder, TEXT a file to measure the perplexity of, TEXTS a file of JSON lines with texts to encode, OUT a new
folder. On stdout: a JSON list of cases with the folder, the options that `convert` needs, the perplexity, and, where the
tokenizer is what the case is about, the ids of every text.
"""

import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPTNeoXForCausalLM

WINDOW, STRIDE = 256, 128
torch.set_num_threads(2)

source, text_path, texts_path, out = sys.argv[1:]
text = open(text_path, encoding="utf-8").read()
texts = [json.loads(line)["text"] for line in open(texts_path, encoding="utf-8")]
weights = load_file(f"{source}/model.safetensors")
config = json.load(open(f"{source}/config.json"))
document = json.load(open(f"{source}/tokenizer.json", encoding="utf-8"))
cases = []


def folder(name, tokenizer=True, **changes):
    """A folder with everything but weights."""
    path = f"{out}/{name}"
    os.makedirs(path)
    json.dump({**config, **changes}, open(f"{path}/config.json", "w"))
    if tokenizer:
        for file in ["tokenizer.json", "tokenizer_config.json"]:
            shutil.copy(f"{source}/{file}", path)
    return path


@torch.no_grad()
def perplexity(model, ids):
    total, scored, end = 0.0, 0, 0
    for begin in range(0, len(ids), STRIDE):
        previous, end = max(end, 1), min(begin + WINDOW, len(ids))
        logits = model(torch.tensor([ids[begin:end]])).logits[0, previous - begin - 1 : -1].double()
        wanted = torch.tensor(ids[previous:end])
        total += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        scored += end - previous
        if end == len(ids):
            return float(torch.tensor(total / scored, dtype=torch.float64).exp())


def load(path, **options):
    model, info = GPTNeoXForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True, **options)
    assert not info["missing_keys"] and not info["unexpected_keys"], (path, info)
    return model.eval()


def case(path, options=(), model=None, tokenizer=None, ids=False, plain=True):
    """Adds a case. Without a model and a tokenizer it is the checkpoint itself in other clothes."""
    if model is None and plain:
        value = PLAIN
    else:
        value = perplexity(model or MODEL, (tokenizer or TOKENIZER)(text)["input_ids"])
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts] if ids else None
    cases.append({"folder": path, "options": list(options), "perplexity": value, "ids": encoded})


TOKENIZER = AutoTokenizer.from_pretrained(source)
MODEL = load(source)
PLAIN = perplexity(MODEL, TOKENIZER(text)["input_ids"])

# Names that wrappers leave behind.
for number, prefix in enumerate(["module.", "_orig_mod.", "base_model.model.", "_orig_mod.module.", "model."]):
    path = folder(f"prefix-{number}")
    save_file({prefix + name: tensor for name, tensor in weights.items()}, f"{path}/model.safetensors")
    case(path)
path = folder("prefix-bin")
torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, f"{path}/pytorch_model.bin")
case(path)

# A model without a head, tied.
path = folder("bare", tie_word_embeddings=True)
bare = {name.removeprefix("gpt_neox."): tensor for name, tensor in weights.items() if name.startswith("gpt_neox.")}
save_file(bare, f"{path}/model.safetensors", metadata={"format": "pt"})
case(path, model=load(path))

# Attention without biases.
path = folder("no-bias", attention_bias=False)
ends = ("attention.dense.bias", "attention.query_key_value.bias")
save_file({n: t for n, t in weights.items() if not n.endswith(ends)}, f"{path}/model.safetensors", metadata={"format": "pt"})
case(path, model=load(path))

# Doubles that no float holds exactly.
torch.manual_seed(1)
doubles = {name: tensor.double() * (1 + 1e-3 * torch.rand(tensor.shape, dtype=torch.float64)) for name, tensor in weights.items()}
for name in ["model.safetensors", "pytorch_model.bin"]:
    path = folder(f"f64-{name}")
    if name.endswith("bin"):
        torch.save(doubles, f"{path}/{name}")
    else:
        save_file(doubles, f"{path}/{name}", metadata={"format": "pt"})
    case(path, model=load(path))

# Shards in a folder of their own, and variants.
for name, options in [("shards", {}), ("variant", {"variant": "fp16"}), ("variant-shards", {"variant": "fp16"})]:
    path = folder(name)
    size = "50GB" if name == "variant" else "4MB"
    half = load(source).half()
    half.save_pretrained(path, max_shard_size=size, **options)
    if name == "shards":
        os.mkdir(f"{path}/parts")
        for file in os.listdir(path):
            if file.startswith("model-"):
                os.rename(f"{path}/{file}", f"{path}/parts/{file}")
        index = f"{path}/model.safetensors.index.json"
        document_ = json.load(open(index))
        document_["weight_map"] = {name: f"parts/{file}" for name, file in document_["weight_map"].items()}
        json.dump(document_, open(index, "w"))
    case(path, options=["--variant", "fp16"] if options else [], model=load(path, **options))


def vocabulary(path, tokenizer_config=None, added=None, special=None):
    """The files of tokenizers before tokenizer.json."""
    json.dump(document["model"]["vocab"], open(f"{path}/vocab.json", "w"), ensure_ascii=False)
    with open(f"{path}/merges.txt", "w", encoding="utf-8") as file:
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
        file.write("\n".join(["#version: 0.2", *merges, ""]))
    for name, value in [("tokenizer_config", tokenizer_config), ("added_tokens", added), ("special_tokens_map", special)]:
        if value is not None:
            json.dump(value, open(f"{path}/{name}.json", "w"))


runs = {t["content"]: t["id"] for t in document["added_tokens"] if t["content"] not in document["model"]["vocab"]}
flags = {t["id"]: {k: v for k, v in t.items() if k != "id"} for t in document["added_tokens"]}
end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
lstrip = {"content": "<c>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False, "__type": "AddedToken"}
for name, files in {
    "two-files": [],
    "added": [{**end, "tokenizer_class": "GPTNeoXTokenizer"}, runs],
    "map": [{}, runs, end],
    "decoder": [{**end, "added_tokens_decoder": flags}],
    "gpt2": [{**end, "tokenizer_class": "GPT2TokenizerFast"}, runs],
    "flags": [{**end, "cls_token": lstrip}, runs],
}.items():
    path = folder(f"vocab-{name}", tokenizer=False)
    shutil.copy(f"{source}/model.safetensors", path)
    vocabulary(path, *files)
    case(path, tokenizer=AutoTokenizer.from_pretrained(path), ids=True, plain=False)

# Two tokens for padding, of which the embedding has a row for one.
path = folder("padding", tokenizer=False)
shutil.copy(f"{source}/model.safetensors", path)
padded = AutoTokenizer.from_pretrained(source)
padded.add_special_tokens({"pad_token": "[PAD]", "cls_token": "[CLS]"})
assert len(padded) > config["vocab_size"], len(padded)
padded.save_pretrained(path)
case(path, tokenizer=padded, ids=True, plain=False)

json.dump(cases, sys.stdout)
