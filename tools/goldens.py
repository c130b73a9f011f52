#!/usr/bin/env python3
"""Records what llama.cpp's quantizer makes of a file: the type and SHA-256 of every tensor, at every level.

    target/peers/bin/python tools/goldens.py model-F32.gguf -o tests/data/goldens/llama_cpp_sha256.json
    target/peers/bin/python tools/goldens.py model-F32.gguf --imatrix imatrix.gguf -o llama_cpp_imatrix_sha256.json

The tests hold our quantizer to these lists. Install llama.cpp with tools/peers.sh. Its quantizers are compiled for
plain x86-64 whatever the CPU, so the lists do not depend on the machine.
"""

import argparse
import ctypes
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

# `llama_ftype` of every level, as in formats/gguf/src/file_type.rs.
LEVELS = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18, "Q5_1": 9, "Q5_K_M": 17, "Q5_K_S": 16, "Q5_0": 8,
    "Q4_1": 3, "Q4_K_M": 15, "Q4_K_S": 14, "IQ4_NL": 25, "Q4_0": 2, "IQ4_XS": 30, "Q3_K_L": 13, "IQ3_M": 27,
    "Q3_K_M": 12, "Q3_K_S": 11, "IQ3_S": 26, "IQ3_XS": 22, "IQ3_XXS": 23, "Q2_K": 10, "IQ2_M": 29, "Q2_K_S": 21,
    "IQ2_S": 28, "IQ2_XS": 20, "IQ2_XXS": 19,
}  # fmt: skip
# llama.cpp refuses to make these without importances.
NEED_IMPORTANCE = {"IQ3_XS", "IQ3_XXS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS"}


RAMP = "ramp"


def importances(path, model):
    """Mean squared activation per column, by tensor, as llama-quantize computes it."""
    import gguf

    if str(path) == RAMP:
        matrices = [t for t in gguf.GGUFReader(model).tensors if len(t.shape) > 1 and t.name != "token_embd.weight"]
        return {t.name: (1 + np.arange(t.shape[0]) % 7).astype(np.float32) for t in matrices}
    tensors = {t.name: np.array(t.data, dtype=np.float32).ravel() for t in gguf.GGUFReader(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    return {name: tensors[f"{name}.in_sum2"] / tensors[f"{name}.counts"][0] for name in names}


def quantize(api, source, target, level, matrix, threads=0):
    """Has llama.cpp write `target`; `matrix` as `importances` gives it, or empty. 0 threads are all."""
    params = api.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = LEVELS[level]
    if matrix:
        array = (api.llama_model_imatrix_data * (len(matrix) + 1))()
        for entry, (name, values) in zip(array, matrix.items()):
            entry.name = name.encode()
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = values.size
        params.imatrix = array
    if api.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        sys.exit(f"goldens: llama.cpp cannot make {level} of {source}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="an F32 GGUF file")
    parser.add_argument("--imatrix", type=Path, help=f"an importance matrix in a GGUF file, or '{RAMP}': column c has 1 + c mod 7")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    import gguf
    import llama_cpp

    matrix = importances(args.imatrix, args.file) if args.imatrix else {}
    tensors, levels = {}, {}
    for level in LEVELS:
        if level in NEED_IMPORTANCE and not matrix:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.gguf"
            quantize(llama_cpp, args.file, made, level, matrix)
            levels[level] = {}
            for tensor in gguf.GGUFReader(made).tensors:
                ty = tensor.tensor_type.name
                known = tensors.setdefault(tensor.name, {"dims": [int(n) for n in tensor.shape], "sha256": {}})
                known["sha256"][ty] = hashlib.sha256(tensor.data.tobytes()).hexdigest()
                if len(tensor.shape) > 1:
                    levels[level].setdefault(ty, []).append(tensor.name)
    # A tensor to a line: lists of this size are read as differences.
    line = lambda items: ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in items)
    origin = (
        f"The tensors of {args.file.stem} as llama-quantize makes them of the F32 file, "
        f"{'with ' + args.imatrix.name if args.imatrix else 'without an importance matrix'}: the llama.cpp in "
        f"llama-cpp-python {llama_cpp.__version__}. Per tensor: ggml dimensions, and the SHA-256 of its bytes in each "
        "type. Per level: which matrices are stored as which type; vectors are F32."
    )
    args.output.write_text(
        f'{{\n"origin": {json.dumps(origin)},\n"levels": {{\n{line(levels.items())}\n}},\n'
        f'"tensors": {{\n{line(sorted(tensors.items()))}\n}}\n}}\n'
    )


if __name__ == "__main__":
    main()
