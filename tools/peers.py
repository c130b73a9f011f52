#!/usr/bin/env python3
"""Runs llama.cpp and transformers beside pythia on the same files.

Install the peers with tools/peers.sh, build with `cargo build --release`, then for example

    target/peers/bin/python tools/peers.py load model-Q8_0.gguf model-Q4_0.gguf
    target/peers/bin/python tools/peers.py perplexity model-Q8_0.gguf -f text.txt
    target/peers/bin/python tools/peers.py speed model-Q8_0.gguf model-Q4_0.gguf
    target/peers/bin/python tools/peers.py speed model-Q8_0.gguf --vs torch --checkpoint model/
    target/peers/bin/python tools/peers.py speed model-Q8_0.gguf --vs torch --checkpoint model/ --device cuda
    target/peers/bin/python tools/peers.py quantize model-F16.gguf --checkpoint model/ --type Q4_K_M,Q6_K
    target/peers/bin/python tools/peers.py hf model/ model-F32.gguf -f text.txt

llama.cpp is driven through llama-cpp-python's low-level API, so no llama.cpp binary is needed. Every subcommand exits
with 1 when what it checks does not hold.
"""

import argparse
import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import goldens
import numpy as np
from in_turns import KINDS, ROOT, bench, cpu_name, fail, middle, output_of, run_pythia, take_turns
from likelihood import negative_log_likelihood, perplexity_of


# ---- our side -------------------------------------------------------------------------------------------------------


def pythia(args, arguments):
    return run_pythia(args.pythia_run, arguments)


def read_text(path):
    """The text as llama-perplexity reads it: one trailing newline dropped."""
    raw = path.read_bytes()
    return raw[:-1] if raw.endswith(b"\n") else raw


def token_ids(args, model):
    """Ids of the text. They come from our tokenizer, so that tokenizers are not part of what is compared."""
    if args.tokens:
        found = json.loads(args.tokens.read_text())
    else:
        with tempfile.NamedTemporaryFile(suffix=".txt") as text:
            text.write(read_text(args.file))
            text.flush()
            found = json.loads(pythia(args, ["tokenize", model, "-f", text.name, "--json"]))
    return found["ids"] if isinstance(found, dict) else found


# ---- llama.cpp ------------------------------------------------------------------------------------------------------


class Llama:
    """One GGUF file opened by llama.cpp, everything it logged, and at most one context."""

    WARN, ERROR, CONTINUED = 3, 4, 5  # ggml_log_level

    def __init__(self, path, threads, check_tensors=False):
        import llama_cpp

        self.api, self.path, self.threads, self.ctx = llama_cpp, path, threads, None
        self.log = []

        @llama_cpp.llama_log_callback
        def callback(level, text, _):
            if level == self.CONTINUED and self.log:
                before, start = self.log[-1]
                self.log[-1] = (before, start + text.decode("utf-8", "replace"))
            else:
                self.log.append((level, text.decode("utf-8", "replace")))

        self.callback = callback  # llama.cpp keeps only the address
        llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.check_tensors = check_tensors
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            print("".join(text for _, text in self.log), file=sys.stderr)
            fail(f"{path}: llama.cpp cannot load this file")
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def context(self, n_ctx, n_batch):
        params = self.api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, min(n_batch, 512)
        params.n_threads = params.n_threads_batch = self.threads
        self.ctx = self.api.llama_init_from_model(self.model, params)
        if not self.ctx:
            fail(f"{self.path}: llama.cpp cannot make a context of {n_ctx} tokens")
        return self

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.ctx), False)

    def decode(self, ids, first_position=0, logits_from=None):
        """Appends `ids` to sequence 0; logits from index `logits_from` on (None: of the last token)."""
        n = len(ids)
        keep = n - 1 if logits_from is None else logits_from
        batch = self.api.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(ids):
            batch.token[i] = int(token)
            batch.pos[i] = first_position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i >= keep
        status = self.api.llama_decode(self.ctx, batch)
        self.api.llama_synchronize(self.ctx)
        self.api.llama_batch_free(batch)
        if status != 0:
            fail(f"{self.path}: llama_decode answered {status}")

    def logits(self, rows):
        """The last decode's logits, [rows, n_vocab] float32."""
        first = self.api.llama_get_logits(self.ctx)
        return np.ctypeslib.as_array(first, shape=(rows, self.n_vocab))


# ---- perplexity -----------------------------------------------------------------------------------------------------


def llama_nll(model, threads, ids, n_ctx, n_chunks=None):
    """Per-token NLL by llama-perplexity's protocol, and tokens per second through llama_decode alone.

    Disjoint chunks, fresh context, the second half scored. The NLLs are made by numpy here, which is not llama.cpp's
    fault: their time is left out, as if llama-perplexity needed none for them.

    Of a chunk of `n_ctx` tokens the targets n_ctx/2+1 .. n_ctx-1 count; a remainder shorter than a chunk is dropped.
    """
    if len(ids) < 2 * n_ctx:
        fail(f"{len(ids)} tokens, need at least two chunks of {n_ctx}")
    llama = Llama(model, threads).context(n_ctx, n_ctx)
    first, nll, seconds = n_ctx // 2, [], 0.0
    chunks = min(len(ids) // n_ctx, n_chunks or len(ids))
    for chunk in range(chunks):
        window = ids[chunk * n_ctx : (chunk + 1) * n_ctx]
        llama.clear()
        start = time.perf_counter()
        llama.decode(window, logits_from=first)
        seconds += time.perf_counter() - start
        nll.append(negative_log_likelihood(llama.logits(n_ctx - first)[:-1], window[first + 1 :]))
    return np.concatenate(nll), chunks * n_ctx / seconds


def command_perplexity(args):
    """llama.cpp's perplexity beside ours, same token ids, same protocol."""
    worst = 0.0
    for model in args.models:
        ids = token_ids(args, model)
        nll, rate = llama_nll(model, args.threads, ids, args.ctx_size, args.chunks)
        theirs, error = perplexity_of(nll)
        print(f"{model.name}: llama.cpp PPL {theirs:.4f} +- {error:.4f}, {len(nll)} tokens scored, {rate:.0f} tokens/s")
        if args.tokens:
            continue  # ids from elsewhere: nothing of ours takes part
        report = our_perplexity(args, model, ["--gelu", args.gelu])
        own_rate = report["tokens_per_second"]
        ours = report["perplexity"]["value"]
        apart = ours / theirs - 1.0
        worst = max(worst, abs(apart))
        scored = report["tokens_scored"]
        print(
            f"{model.name}: pythia    PPL {ours:.4f}, {scored} tokens scored, {own_rate:.0f} tokens/s "
            f"({own_rate / rate:.2f} times), {100 * apart:+.4f} %"
        )
        if scored != len(nll):
            fail(f"{model}: pythia scored {scored} tokens, llama.cpp {len(nll)}")
    if worst > args.within / 100.0:
        fail(f"perplexities differ by {100 * worst:.3f} %, allowed {args.within} %")


def our_perplexity(args, model, mode, nll_out=None):
    """Our report of the same protocol, as a dictionary. `mode` is what differs from the defaults."""
    arguments = ["perplexity", model, "-f", args.file, "--protocol", "llama", "-c", args.ctx_size]
    arguments += ["-t", args.threads, "--json", *mode]
    if args.chunks:
        arguments += ["--chunks", args.chunks]
    if nll_out:
        arguments += ["--nll-out", nll_out]
    return json.loads(pythia(args, arguments))


# ---- load -----------------------------------------------------------------------------------------------------------

# Log lines below warning level that still mean the file lacks something: "file type = F16 (guessed)" and the like.
COMPLAINTS = re.compile(r"missing|degraded|guessed|unused tensor", re.IGNORECASE)


def command_load(args):
    """Loads each file in llama.cpp, checks every block, and fails if the log complains about the file."""
    bad = 0
    for model in args.models:
        llama = Llama(model, args.threads, check_tensors=True)
        if args.verbose:
            print("".join(text for _, text in llama.log), end="")
        n_model_lines = len(llama.log)
        llama.context(64, 64)
        llama.decode([0, 1, 2, 3])
        finite = bool(np.isfinite(llama.logits(1)).all())
        # Lines about the context (its length, the machine) say nothing about the file.
        complaints = [
            text.strip()
            for level, text in llama.log[:n_model_lines]
            if level in (Llama.WARN, Llama.ERROR) or COMPLAINTS.search(text)
        ]
        for line in complaints:
            print(f"{model.name}: {line}")
        if not finite:
            print(f"{model.name}: the logits of four tokens are not finite")
        good = finite and not complaints
        bad += not good
        print(f"{model.name}: {'loads without a complaint' if good else 'FAILED'} ({n_model_lines} log lines)")
    if bad:
        fail(f"{bad} of {len(args.models)} files")


# ---- speed ----------------------------------------------------------------------------------------------------------


def time_llama(args, model):
    """Tokens per second of one prompt and one generation, as llama-bench takes them: warm-up, then timed."""
    n_prompt, n_gen = args.n_prompt, args.n_gen
    llama = Llama(model, args.threads).context(n_prompt + n_gen, 2048)
    ids = np.random.default_rng(0).integers(0, llama.n_vocab, n_prompt + n_gen)

    def prompt():
        llama.clear()
        start = time.perf_counter()
        llama.decode(ids[:n_prompt])
        return n_prompt / (time.perf_counter() - start)

    def generation(n):
        llama.clear()
        start = time.perf_counter()
        for i in range(n):
            llama.decode(ids[i : i + 1], first_position=i)
        return n / (time.perf_counter() - start)

    prompt()
    pp = prompt()
    generation(1)
    return {"pp": pp, "tg": generation(n_gen)}


def open_transformers(args, dtype, **options):
    """The checkpoint as a transformers model of this dtype."""
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    dtype = getattr(torch, dtype)
    return transformers.AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=dtype, **options).eval()


def time_torch(args, dtype):
    """The same measurement for transformers with its KV cache."""
    import torch

    model = open_transformers(args, dtype).to(args.device)
    ids = torch.randint(0, model.config.vocab_size, (1, args.n_prompt), generator=torch.Generator().manual_seed(0))
    ids = ids.to(args.device)

    def clock():
        if args.device != "cpu":
            torch.cuda.synchronize()  # what was asked for has been done
        return time.perf_counter()

    def prompt():
        start = clock()
        model(ids, logits_to_keep=1)
        return args.n_prompt / (clock() - start)

    def generation(n):
        past, start = None, clock()
        for i in range(n):
            token = ids[:, i % args.n_prompt : i % args.n_prompt + 1]
            past = model(token, past_key_values=past, use_cache=True).past_key_values
        return n / (clock() - start)

    with torch.inference_mode():
        prompt()
        pp = prompt()
        generation(1)
        return {"pp": pp, "tg": generation(args.n_gen)}


def time_ours(args, model):
    return bench(args.pythia_run, model, args.n_prompt, args.n_gen, args.threads, args.device)


def in_child(args, engine, model):
    """Times a peer in a process of its own, so that its threads are gone when the next engine runs."""
    command = [sys.executable, __file__, "time-one", engine, str(model), "-p", str(args.n_prompt)]
    command += ["-n", str(args.n_gen), "-t", str(args.threads), "--checkpoint", str(args.checkpoint or "")]
    command += ["--device", args.device]
    return json.loads(output_of(command))


def command_time_one(args):
    engine = args.engine
    print(json.dumps(time_llama(args, args.model) if engine == "llama.cpp" else time_torch(args, engine)))


def command_speed(args):
    """pp and tg of each engine on each file, the engines taking turns, medians of the rounds."""
    if args.vs == "torch" and not args.checkpoint:
        fail("--vs torch needs --checkpoint, the folder the files were converted from")
    if args.vs == "llama" and args.device != "cpu":
        fail("llama.cpp is timed on the CPU alone")
    peers = ["llama.cpp"] if args.vs == "llama" else ["float32", "bfloat16"] if args.device == "cpu" else ["bfloat16"]
    place = f"{cpu_name()}, {args.threads} threads" if args.device == "cpu" else args.device
    print(f"{place}, medians of {args.rounds} rounds, engines in turn; tokens/s\n")
    labels = [f"pp{args.n_prompt}", f"tg{args.n_gen}"]
    print(f"| file | engine | {labels[0]} | min..max | {labels[1]} | min..max | pythia / engine |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for model in args.models:
        measures = {peer: lambda peer=peer: in_child(args, peer, model) for peer in peers}
        if not args.no_pythia:
            measures = {"pythia": lambda: time_ours(args, model), **measures}
        samples = take_turns(measures, args.rounds, {})
        medians = {engine: middle(taken) for engine, taken in samples.items()}
        own = medians.get("pythia")
        for engine in measures:
            cells = [model.name, engine]
            for kind in KINDS:
                taken = samples[engine][kind]
                cells += [f"{medians[engine][kind]:.1f}", f"{min(taken):.1f}..{max(taken):.1f}"]
            compared = own if engine != "pythia" else None
            ratio = "" if compared is None else " / ".join(f"{own[k] / medians[engine][k]:.2f}" for k in KINDS)
            print(f"| {' | '.join([*cells, ratio])} |", flush=True)


# ---- quantize -------------------------------------------------------------------------------------------------------


def command_quantize(args):
    """Wall time and peak memory of quantizing: llama.cpp from its F16 file, ours from the checkpoint, in turn."""
    types = args.type.split(",")
    ours = [args.pythia_run.with_name("pythia-quant"), "convert", args.checkpoint, "--force", "--threads", args.threads]
    print(f"{cpu_name()}, {args.threads} threads, medians of {args.rounds} rounds, in turn\n")
    print("| type | engine | seconds | min..max | CPU seconds | peak MB | llama.cpp / engine |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(dir=args.output) as folder:
        own = [sys.executable, __file__, "quantize-one", args.f16, "-t", args.threads]
        commands = {(ty, "llama.cpp"): [*own, "--type", ty, "-o", Path(folder) / "llama.gguf"] for ty in types}
        commands |= {(ty, "pythia"): [*ours, "-t", ty, "-o", folder] for ty in types}
        if len(types) > 1:
            commands["all in one pass", "pythia"] = [*ours, "-t", args.type, "-o", folder]
        runs = {key: [] for key in commands}
        for _ in range(args.rounds):
            for key, command in commands.items():
                runs[key].append(timed(command))
                for made in Path(folder).iterdir():
                    made.unlink()
    middle = {key: statistics.median(seconds for seconds, _, _ in samples) for key, samples in runs.items()}
    for (ty, engine), samples in sorted(runs.items(), key=lambda item: (types + [item[0][0]]).index(item[0][0])):
        seconds, cpu, peak = zip(*samples)
        ratio = f"{middle[ty, 'llama.cpp'] / middle[ty, engine]:.2f}" if (ty, "llama.cpp") in middle else ""
        cells = [ty, engine, f"{middle[ty, engine]:.1f}", f"{min(seconds):.1f}..{max(seconds):.1f}"]
        cells += [f"{statistics.median(cpu):.1f}", f"{max(peak):.0f}", ratio]
        print(f"| {' | '.join(cells)} |")


def timed(command):
    """Seconds, CPU seconds and peak resident megabytes of a command."""
    start = time.perf_counter()
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        fail(f"{' '.join(map(str, command))}: status {status}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000.0


def command_quantize_one(args):
    import llama_cpp

    goldens.quantize(llama_cpp, args.f16, args.output, args.type, {}, args.threads)


# ---- hf -------------------------------------------------------------------------------------------------------------


def command_hf(args):
    """transformers in float32 against our F32 file in `--activations f32`, per-token NLL, llama protocol."""
    import torch
    import transformers

    model = open_transformers(args, "float32", attn_implementation="eager")
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.checkpoint)
    ids = tokenizer(read_text(args.file).decode(), add_special_tokens=False)["input_ids"]
    ours_ids = token_ids(args, args.model)
    if ids != ours_ids:
        at = next((i for i, (a, b) in enumerate(zip(ids, ours_ids)) if a != b), min(len(ids), len(ours_ids)))
        fail(f"token ids differ from transformers' at index {at}")
    n_ctx, first, nll = args.ctx_size, args.ctx_size // 2, []
    chunks = len(ids) // n_ctx
    with torch.inference_mode():
        for chunk in range(min(chunks, args.chunks or chunks)):
            window = ids[chunk * n_ctx : (chunk + 1) * n_ctx]
            logits = model(torch.tensor([window])).logits[0, first:-1].double()
            targets = torch.tensor(window[first + 1 :])
            nll.append((logits.logsumexp(1) - logits.gather(1, targets[:, None])[:, 0]).numpy())
    theirs = np.concatenate(nll)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "nll.jsonl"
        report = our_perplexity(args, args.model, ["--activations", "f32", "--kv", "f32"], nll_out=out)
        ours = np.asarray(read_nll(out))
    if len(ours) != len(theirs):
        fail(f"pythia scored {len(ours)} tokens, transformers {len(theirs)}")
    apart = np.abs(ours - theirs)
    print(f"transformers f32: PPL {perplexity_of(theirs)[0]:.5f}, {len(theirs)} tokens scored")
    print(f"pythia f32:       PPL {report['perplexity']['value']:.5f}")
    print(f"|dNLL|: max {apart.max():.3e}, mean {apart.mean():.3e} nats (allowed max {args.within:g})")
    if not apart.max() <= args.within:
        fail(f"{args.model}: per-token NLL differs by {apart.max():.3e} nats at scored token {apart.argmax()}")


def read_nll(path):
    """What `--nll-out` wrote: a JSON object per scored token."""
    return [json.loads(line)["nll"] for line in path.read_text().splitlines()]


# ---- command line ---------------------------------------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, run, help, models="+"):
        sub = commands.add_parser(name, help=help, description=run.__doc__)
        sub.set_defaults(run=run)
        sub.add_argument("-t", "--threads", type=int, default=2)
        sub.add_argument("--pythia-run", type=Path, default=ROOT / "target/release/pythia-run")
        if models:
            sub.add_argument("models", nargs=models, type=Path, metavar="GGUF")
        return sub

    def text(sub):
        sub.add_argument("-f", "--file", type=Path, required=True, help="the text to score")
        sub.add_argument("-c", "--ctx-size", type=int, default=512)
        sub.add_argument("--chunks", type=int, help="only so many chunks")
        sub.add_argument("--tokens", type=Path, help="JSON list of token ids instead of asking pythia-run")

    sub = command("perplexity", command_perplexity, "llama.cpp's perplexity beside ours")
    text(sub)
    sub.add_argument("--gelu", choices=["tanh", "erf"], default="tanh", help="of our side; llama.cpp has only tanh")
    sub.add_argument("--within", type=float, default=1.0, metavar="PERCENT")

    sub = command("load", command_load, "load files in llama.cpp; fail on any complaint in its log")
    sub.add_argument("-v", "--verbose", action="store_true", help="print the whole log")

    for name, run, help in [
        ("speed", command_speed, "prompt and generation speed, the engines taking turns"),
        ("time-one", command_time_one, "one measurement of one peer (what `speed` runs)"),
    ]:
        sub = command(name, run, help, models="+" if name == "speed" else None)
        if name == "speed":
            sub.add_argument("-r", "--rounds", type=int, default=5)
            sub.add_argument("--vs", choices=["llama", "torch"], default="llama")
            sub.add_argument("--no-pythia", action="store_true", help="time the peers alone")
        else:
            sub.add_argument("engine", choices=["llama.cpp", "float32", "bfloat16"])
            sub.add_argument("model", type=Path)
        sub.add_argument("-p", "--n-prompt", type=int, default=512)
        sub.add_argument("-n", "--n-gen", type=int, default=128)
        sub.add_argument("--checkpoint", type=Path, help="Hugging Face folder for --vs torch")
        sub.add_argument("--device", default="cpu", help="cpu or cuda[:N], for pythia and torch")

    for name, run, help in [
        ("quantize", command_quantize, "time of quantizing a checkpoint, the engines taking turns"),
        ("quantize-one", command_quantize_one, "llama.cpp quantizing one file (what `quantize` runs)"),
    ]:
        sub = command(name, run, help, models=None)
        sub.add_argument("f16", type=Path, metavar="F16_GGUF")
        sub.add_argument("--type", required=True, help="a level, or several separated by commas")
        sub.add_argument("-o", "--output", type=Path, help="where to write: a folder, or the file")
        if name == "quantize":
            sub.add_argument("--checkpoint", type=Path, required=True, help="the folder the file was converted from")
            sub.add_argument("-r", "--rounds", type=int, default=3)

    sub = command("hf", command_hf, "per-token NLL against transformers float32", models=None)
    sub.add_argument("checkpoint", type=Path)
    sub.add_argument("model", type=Path, metavar="F32_GGUF")
    text(sub)
    sub.add_argument("--within", type=float, default=1e-4, metavar="NATS")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    arguments.run(arguments)
