#!/usr/bin/env python3
"""Writes the codebooks of the grid formats, and what their codecs are tested with.

    target/peers/bin/python tools/codebooks.py

The codebooks are data of the formats: a file cannot be read without them. They are had here by decoding a block for
every index with the `gguf` package. Install it, and llama.cpp, with tools/peers.sh.

formats/tensor/src/grid/codebooks.bin: the codebooks one after another, a little-endian u16 per entry that holds the
level of every element, 2 bits each in the IQ2 formats and 3 bits in the IQ3 ones, the first element lowest.

formats/tensor/src/grid/goldens.txt: random blocks with a hash of what `gguf` decodes them to, and what llama.cpp
encodes rows of noise as.
"""

import ctypes
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

GRID = Path(__file__).resolve().parent.parent / "formats/tensor/src/grid"
# Of the rows of noise.
COLUMNS = 512
# llama.cpp refuses to make these without importances.
NEED_IMPORTANCE = {Type.IQ2_XXS, Type.IQ2_XS}

# Per format: entries, elements of an entry, magnitudes of the levels, the f16 scale that makes `scale of a group of
# scale 0` one, and where the index of entry 0 of a block goes: bytes of its low bits, and the byte with the rest.
FORMATS = {
    Type.IQ2_XXS: (256, 8, (8, 25, 43), 8.0, lambda i: {2: i}),
    Type.IQ2_XS: (512, 8, (8, 25, 43), 8.0, lambda i: {2: i & 255, 3: i >> 8}),
    Type.IQ2_S: (1024, 8, (8, 25, 43), 8.0, lambda i: {2: i & 255, 66: i >> 8}),
    Type.IQ3_XXS: (256, 4, (4, 12, 20, 28, 36, 44, 52, 62), 4.0, lambda i: {2: i}),
    Type.IQ3_S: (512, 4, (1, 3, 5, 7, 9, 11, 13, 15), 1.0, lambda i: {2: i & 255, 66: i >> 8}),
}


def codebook(kind):
    """The entries of a format, packed."""
    entries, elems, levels, scale, place = FORMATS[kind]
    blocks = np.zeros((entries, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(scale).tobytes(), dtype=np.uint8)
    for index, block in enumerate(blocks):
        for at, byte in place(index).items():
            block[at] = byte
    decoded = gguf.quants.dequantize(blocks, kind)[:, :elems]
    codes = np.searchsorted(levels, decoded)
    assert (np.array(levels, dtype=np.float32)[codes] == decoded).all(), f"{kind.name} has other levels"
    shifts = np.arange(elems) * (16 // elems if len(levels) == 3 else 3)
    packed = (codes << shifts).sum(axis=1).astype("<u2")
    assert len(set(packed.tolist())) == entries and packed[0] == 0, f"{kind.name} repeats an entry"
    return packed.tobytes()


def fnv1a(data):
    """The 64-bit FNV-1a hash of bytes."""
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return digest


def decoded_blocks(kind, rng, count=2):
    """Random blocks, and a hash of the f32 that each decodes to. Scales are normal numbers."""
    blocks = rng.integers(0, 256, (count, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    blocks[:, :2] = rng.normal(0, 0.05, (count, 1)).astype("<f2").view(np.uint8)
    for block in blocks:
        decoded = gguf.quants.dequantize(block[None], kind).astype("<f4")
        yield f"decode {kind.name} {block.tobytes().hex()} {fnv1a(decoded.tobytes()):016x}"


class Noise:
    """Numbers that the tests make again: see formats/tensor/src/grid/tests.rs."""

    def __init__(self, seed):
        self.state = seed

    def draw(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state >> 48

    def row(self, wild):
        """Elements: a smooth hump, or of all magnitudes and with zeros."""
        if not wild:
            return [(sum(self.draw() for _ in range(4)) - 131070) / 2**17 for _ in range(COLUMNS)]
        return [(self.draw() - 32768) * 2.0 ** (self.draw() % 25 - 30) * (self.draw() % 8 != 0) for _ in range(COLUMNS)]

    def importance(self, wild):
        if not wild:
            return [(self.draw() + 1) / 2**10 for _ in range(COLUMNS)]
        return [2.0 ** (self.draw() % 33 - 16) * (self.draw() % 4 != 0) for _ in range(COLUMNS)]


def encoded_rows(kind, ggml):
    """What llama.cpp makes of rows of noise, with importances and, where it agrees to that, without."""
    ggml.ggml_quantize_init(kind.value)
    for wild in (False, True):
        for weighted in (False, True):
            if not weighted and kind in NEED_IMPORTANCE:
                continue
            noise = Noise(1 + wild)
            row = np.array(noise.row(wild), dtype=np.float32)
            importance = np.array(noise.importance(wild), dtype=np.float32)
            encoded = np.zeros(COLUMNS // 256 * gguf.GGML_QUANT_SIZES[kind][1], dtype=np.uint8)
            pointers = (row.ctypes.data, encoded.ctypes.data, 0, 1, COLUMNS, importance.ctypes.data if weighted else None)
            ggml.ggml_quantize_chunk(kind.value, *pointers)
            names = f"{'wild' if wild else 'smooth'} {'weighted' if weighted else 'plain'}"
            yield f"encode {kind.name} {names} {encoded.tobytes().hex()}"


def load_ggml():
    """llama.cpp's quantizers, out of llama-cpp-python."""
    import llama_cpp

    ggml = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so*"))))
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    return ggml


def main():
    (GRID / "codebooks.bin").write_bytes(b"".join(codebook(kind) for kind in FORMATS))
    rng, ggml = np.random.default_rng(2024), load_ggml()
    lines = [line for kind in FORMATS for line in (*decoded_blocks(kind, rng), *encoded_rows(kind, ggml))]
    (GRID / "goldens.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
