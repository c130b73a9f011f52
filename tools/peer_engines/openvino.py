"""OpenVINO: optimum-intel exports a model with its cache inside and compresses the weights, OpenVINO's runtime runs it.

Weights are compressed as optimum-intel does it by itself: int8 with a scale and a zero point per row, int4 with the same
per group of 128, embeddings and output matrix in int8.

The exported model makes logits of every token. OpenVINO's own GenAI cuts it to the last one before it runs a prompt, and
so does this.
"""

import numpy as np

PACKAGES = ["openvino", "optimum-intel", "nncf"]
PROPERTIES = ["INFERENCE_PRECISION_HINT", "DYNAMIC_QUANTIZATION_GROUP_SIZE", "KV_CACHE_PRECISION"]
# By itself OpenVINO quantizes activations in groups of 32 and does the rest in bfloat16, where the processor has it.
# Groups of 128 were its fastest: of 64, 256 and whole rows, with bfloat16 and float32, none came near.
OPTIONS = {"int8/32": {}, "int8/128": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}}


def convert(checkpoint, folder, weights):
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

    config = OVWeightQuantizationConfig(bits={"int8": 8, "int4": 4}[weights])
    OVModelForCausalLM.from_pretrained(checkpoint, export=True, quantization_config=config).save_pretrained(folder)


def keep_last_row(model):
    """Cuts the input of the output matrix to its last row."""
    from openvino import opset13 as ops

    product = model.output("logits").get_node().input_value(0).get_node()
    while product.get_type_name() != "MatMul":
        product = product.input_value(0).get_node()
    last = [np.array([i], dtype=np.int64) for i in (-1, np.iinfo(np.int64).max, 1, 1)]
    rows = ops.slice(product.input_value(0), *last)
    product.input(0).replace_source_output(rows.output(0))
    model.validate_nodes_and_infer_types()


def shown(value):
    """A property as a word: types print as <Type: 'float32'>."""
    return value.to_string() if hasattr(value, "to_string") else value


class Engine:
    def __init__(self, _checkpoint, folder, precision, threads):
        import openvino

        core = openvino.Core()
        model = core.read_model(folder / "openvino_model.xml")
        keep_last_row(model)
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        options |= OPTIONS[precision.split("+")[1]]
        compiled = core.compile_model(model, "CPU", options)
        self.request = compiled.create_infer_request()
        self.inputs = {name for port in compiled.inputs for name in port.names}
        self.what = ", ".join(f"{name} {shown(compiled.get_property(name))}" for name in PROPERTIES)

    def pass_over(self, ids, before):
        n = len(ids)
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, before + n), dtype=np.int64),
            "position_ids": np.arange(before, before + n, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self.request.infer({name: value for name, value in feed.items() if name in self.inputs})
        return self.request.get_tensor("logits").data[0, -1]

    def prompt(self, ids):
        self.request.reset_state()
        return self.pass_over(ids, 0).copy()

    def generate(self, ids, n):
        self.request.reset_state()
        tokens, before = [], 0
        for _ in range(n):
            step = tokens[-1:] or ids
            tokens.append(int(self.pass_over(step, before).argmax()))
            before += len(step)
        return tokens
