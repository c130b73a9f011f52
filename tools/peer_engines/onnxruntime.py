"""ONNX Runtime: optimum-onnx exports, ONNX Runtime's own tools quantize, its CPU provider runs.

The export makes logits of every token; a slice before the output matrix keeps the last one.
"""

import numpy as np

PACKAGES = ["onnxruntime", "optimum-onnx", "onnx"]
EXPORTED, MODEL = "model.onnx", "quantized.onnx"
WHAT = {
    "float32": "MatMul",
    "int8": "quantize_dynamic, a scale per column of weights and one per pass",
    "int4": "MatMulNBits, groups of 32, symmetric, accuracy level 4",
}


def convert(checkpoint, folder, weights):
    import onnx
    from optimum.exporters.onnx import main_export

    main_export(str(checkpoint), folder, task="text-generation-with-past", do_validation=False)
    model = onnx.load(folder / EXPORTED)
    keep_last_row(model)
    if weights == "int4":
        model = four_bits(model)
    kept = folder / (EXPORTED if weights == "int8" else MODEL)
    for old in folder.glob("*.onnx*"):
        old.unlink()
    onnx.save(model, kept, save_as_external_data=True, location=f"{kept.name}.data")
    if weights == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(kept, folder / MODEL, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=True)
        for old in folder.glob(f"{EXPORTED}*"):
            old.unlink()


def keep_last_row(model):
    """Cuts the input of the output matrix to its last row."""
    from onnx import helper, numpy_helper

    graph = model.graph
    at = next(i for i, node in enumerate(graph.node) if "logits" in node.output)
    product, rows = graph.node[at], "last_row"
    assert product.op_type == "MatMul", product.op_type
    names = [f"{rows}_{part}" for part in ("start", "end", "axis")]
    for name, value in zip(names, (-1, np.iinfo(np.int64).max, 1)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.int64), name))
    graph.node.insert(at, helper.make_node("Slice", [product.input[0], *names], [rows], name=rows))
    product.input[0] = rows


def four_bits(model):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=32, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    return quantizer.model.model


class Engine:
    def __init__(self, _checkpoint, folder, precision, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.ort = onnxruntime
        self.session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
        self.past = [port for port in self.session.get_inputs() if port.name.startswith("past_key_values")]
        self.inputs = {port.name for port in self.session.get_inputs()}
        self.outputs = [port.name for port in self.session.get_outputs()]
        self.what = WHAT[precision.split("+")[0]]

    def empty(self):
        """A cache without a token: [1, heads, 0, channels] for each layer's keys and values."""
        shapes = ([1, port.shape[1], 0, port.shape[3]] for port in self.past)
        return [self.ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=np.float32)) for shape in shapes]

    def pass_over(self, ids, before, past):
        """The last row of logits, and the cache, which stays in the runtime's own memory."""
        n = len(ids)
        feed = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, before + n), dtype=np.int64),
            "position_ids": np.arange(before, before + n, dtype=np.int64)[None],
        }
        binding = self.session.io_binding()
        for name, value in feed.items():
            if name in self.inputs:
                binding.bind_cpu_input(name, value)
        for port, value in zip(self.past, past):
            binding.bind_ortvalue_input(port.name, value)
        for name in self.outputs:
            binding.bind_output(name)
        self.session.run_with_iobinding(binding)
        made = dict(zip(self.outputs, binding.get_outputs()))
        past = [made[port.name.replace("past_key_values", "present")] for port in self.past]
        return made["logits"].numpy()[0, -1], past

    def prompt(self, ids):
        return self.pass_over(ids, 0, self.empty())[0]

    def generate(self, ids, n):
        tokens, before, past = [], 0, self.empty()
        for _ in range(n):
            step = tokens[-1:] or ids
            row, past = self.pass_over(step, before, past)
            tokens.append(int(row.argmax()))
            before += len(step)
        return tokens
