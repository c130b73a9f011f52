"""CTranslate2: its converter, and its generator in C++."""

import json

import numpy as np

PACKAGES = ["ctranslate2", "transformers"]


def convert(checkpoint, folder, weights):
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(str(folder), quantization=weights, force=True)


class Engine:
    def __init__(self, _checkpoint, folder, _precision, threads):
        import ctranslate2

        self.generator = ctranslate2.Generator(str(folder), device="cpu", inter_threads=1, intra_threads=threads)
        self.names = json.loads((folder / "vocabulary.json").read_text())
        self.what = f"compute type {self.generator.compute_type}"

    def run(self, ids, n, **options):
        """`n` steps after `ids`. The end of a text has no meaning here, so no token ends it."""
        names = [self.names[i] for i in ids]
        return self.generator.generate_batch(
            [names], max_length=n, min_length=n, sampling_topk=1, include_prompt_in_result=False, end_token=[], **options
        )[0]

    def prompt(self, ids):
        return np.array(self.run(ids, 1, return_logits_vocab=True).logits[0][0], dtype=np.float32)

    def generate(self, ids, n):
        return self.run(ids, n).sequences_ids[0]
