"""transformers on torch, eager, with its own cache. int8: dynamic quantization of the linear layers by torch itself."""

PACKAGES = ["torch", "transformers"]


def convert(_checkpoint, _folder, _weights):
    """The checkpoint is read as it is."""


class Engine:
    def __init__(self, checkpoint, _folder, precision, threads):
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
        self.what = f"eager, {self.model.config._attn_implementation} attention"
        if precision == "int8+int8":
            quantize = torch.ao.quantization.quantize_dynamic
            self.model = quantize(self.model, {torch.nn.Linear}, dtype=torch.qint8)
            self.what = f"{self.what}, int8 with a scale per matrix and one per pass, {torch.backends.quantized.engine}"

    def pass_over(self, ids, past=None):
        """The last row of logits, and the cache."""
        with self.torch.inference_mode():
            tokens = self.torch.tensor([ids])
            out = self.model(tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1], out.past_key_values

    def prompt(self, ids):
        return self.pass_over(ids)[0].float().numpy()

    def generate(self, ids, n):
        tokens, past = [], None
        for _ in range(n):
            row, past = self.pass_over(tokens[-1:] or ids, past)
            tokens.append(int(row.argmax()))
        return tokens
