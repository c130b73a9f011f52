"""Other engines that run GPT-NeoX on the CPU, one module each, behind one interface.

A module is named like its engine, and the packages it needs, at fixed versions, are in a text file of that name. It has

- `PACKAGES`: those whose versions say what was measured,
- `convert(checkpoint, folder, weights)`: writes what `Engine` reads,
- `Engine(checkpoint, folder, precision, threads)` with
  `prompt(ids)`: the logits after `ids`, computed in one pass from an empty cache, float32 [vocabulary],
  `generate(ids, n)`: the `n` most likely tokens one after the other, with a cache of keys and values,
  `what`: what it says that it computes with.

tools/engines.py imports this file alone; the modules are imported in their engines' own environments.
"""

import importlib

# What each can be asked for, as WEIGHTS or WEIGHTS+ACTIVATIONS of the linear layers, with the size of groups where there is
# a choice.
PRECISIONS = {
    "torch": ["float32", "bfloat16", "int8+int8"],
    "openvino": ["int8+int8/32", "int8+int8/128", "int4+int8/32", "int4+int8/128"],
    "ctranslate2": ["float32", "int8+int8"],
    "onnxruntime": ["float32", "int8+uint8", "int4+int8"],
}


def module(name):
    return importlib.import_module(f"peer_engines.{name}")


def weights_of(precision):
    return precision.split("+")[0]
