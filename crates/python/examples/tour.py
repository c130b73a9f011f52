"""A tour: convert a small model, compare its levels, look inside, change it.

Runs as a script, and cell by cell where `# %%` begins a cell (VS Code, Spyder, Jupyter with jupytext):

    pip install . matplotlib
    python crates/python/examples/tour.py [FOLDER FOR FILES AND PICTURES]
"""

# %% The model: 6 million parameters, trained on documentation of Rust. It is in this repository.
import sys
import tempfile
from pathlib import Path

import matplotlib

import pythia_quant as pq

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE.parents[2] / "tests/data/pythia-docs-6m"
HELDOUT = CHECKPOINT / "heldout.txt"
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
OUT.mkdir(parents=True, exist_ok=True)

# %% Convert it to two types, in one pass.
exact_path, path = pq.convert(CHECKPOINT, OUT, ["F32", "Q4_0"], force=True)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {exact_path.name}: {exact_path.stat().st_size / 1e6:.1f} MB")

# %% Compare levels with the checkpoint: what do the bits buy?
records = pq.compare(CHECKPOINT, HELDOUT, ["Q8_0", "Q6_K", "Q4_0", "Q3_K_M", "Q2_K"], chunks=20, cache=OUT / "cache")
for record in records:
    against = record["against_base"]
    kld = f"KLD {against['kld_mean']['value']:.5f}" if against else "base"
    print(f"{record['name']:8} {record['file_bytes'] / 1e6:5.1f} MB  PPL {record['perplexity']['value']:.3f}  {kld}")

figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
levels = [record for record in records if record["against_base"]]
x = [record["bits_per_weight"] for record in levels]
y = [record["against_base"]["kld_mean"]["value"] for record in levels]
axes.plot(x, y, "o")
for record, at in zip(levels, zip(x, y, strict=True), strict=True):
    axes.annotate(record["name"], at, textcoords="offset points", xytext=(5, 4))
axes.set(yscale="log", xlabel="bits per weight", ylabel="KL divergence from the base [nats]")
figure.savefig(OUT / "compare.png", dpi=120)

# %% Open a level, and let it write.
model = pq.Model(path)
print(model)
print("The model" + "".join(model.generate("The model", max_new_tokens=24, temperature=0.8, seed=1)))

# %% What each block knows: its residual stream put in place of the last one, so that norm and output matrix read it.
text = "A crate is a compilation unit in Rust."
ids = model.tokenize(text)
last = f"blocks.{model.n_layer - 1}.hook_resid_post"
cache = model.run_with_cache(ids, ["blocks.*.hook_resid_post", "blocks.*.attn.hook_pattern"])
lens = np.stack(
    [model.patch({last: cache[f"blocks.{i}.hook_resid_post"]}, last).logits(ids) for i in range(model.n_layer)]
)
log_p = lens - np.logaddexp.reduce(lens, axis=-1, keepdims=True)
true = log_p[:, np.arange(len(ids) - 1), ids[1:]]
best = lens.argmax(-1)
assert np.array_equal(lens[-1], model.logits(ids)), "the lens of the last block is the model itself"

figure, axes = plt.subplots(figsize=(1 + 0.75 * len(ids), 3.5), layout="constrained")
image = axes.imshow(true, aspect="auto", cmap="viridis")
for layer in range(model.n_layer):
    for at in range(len(ids) - 1):
        word = model.detokenize([best[layer, at]]).strip() or "_"
        axes.text(at, layer, word.replace("$", r"\$"), ha="center", va="center", fontsize=7, color="white")
pieces = [model.detokenize([id]) for id in ids[1:]]
axes.set_xticks(range(len(pieces)), [piece.replace("$", r"\$") for piece in pieces], rotation=45)
axes.set(ylabel="block", title="likeliest token, and ln p of the true one")
figure.colorbar(image)
figure.savefig(OUT / "lens.png", dpi=120)
print("mean ln p of the true token after each block:", np.round(true.mean(1), 2))

# %% Where attention looks: how much of it goes to the token before, by head.
patterns = np.stack([cache[f"blocks.{i}.attn.hook_pattern"] for i in range(model.n_layer)])
before = np.diagonal(patterns, -1, axis1=-2, axis2=-1).mean(-1)
layer, head = np.unravel_index(before.argmax(), before.shape)
print(f"head {layer}.{head} gives {before[layer, head]:.0%} of its attention to the token before")

# %% What that head is for: perplexity without it, and without a whole MLP.
usual = model.perplexity(HELDOUT, chunks=20)["perplexity"]["value"]
with model.ablate(heads=[(int(layer), int(head))]) as without:
    print(f"perplexity {usual:.2f}, without the head {without.perplexity(HELDOUT, chunks=20)['perplexity']['value']:.2f}")
with model.ablate(mlps=[0]) as without:
    print(f"perplexity without MLP 0: {without.perplexity(HELDOUT, chunks=20)['perplexity']['value']:.2f}")

# %% What rounding to 4 bits changes inside: error of the residual stream, block by block.
rounded = pq.Model(path, activations="f32")
exact = pq.Model(exact_path, activations="f32")
hooks = "blocks.*.hook_resid_post"
ones, others = (m.run_with_cache(ids, hooks) for m in (exact, rounded))
errors = [float(np.linalg.norm(ones[name] - others[name]) / np.linalg.norm(ones[name])) for name in ones]
print("relative error of the residual stream after each block:", np.round(errors, 4))
print(f"pictures: {OUT / 'compare.png'}, {OUT / 'lens.png'}")
