"""The model class ``pythia_gguf`` of lm-evaluation-harness: scores and generates in this process, without a server.

    python -m pythia_quant.lm_eval --model pythia_gguf --model_args path=pythia-70m-Q8_0.gguf --tasks lambada_openai

The harness has no way to find model classes of other packages, so this command registers the class and then is the
harness's own, with all its options. A program that imports this module can name ``pythia_gguf`` in
``lm_eval.simple_evaluate`` as well.

``model_args`` are ``path`` and the keyword arguments of :class:`pythia_quant.Model`, with ``pythia_device`` for
``device``, and ``draft`` (a GGUF file or ``lookup``), ``draft_max`` and ``draft_min``, which change no text. Token rules,
windows and stop strings are those of the harness's ``hf`` class; all requests of a task run together, and what they begin
with in common is computed once.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs

from .. import Model

MAX_GEN_TOKS = 256
"""Tokens that are generated if a task states no limit, as with the harness's other classes."""

SAMPLING = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}
OTHER = {"do_sample", "until", "max_gen_toks", "seed"}


@register_model("pythia_gguf")
class PythiaGGUF(LM):
    """A GGUF file as a model of the harness."""

    def __init__(
        self,
        path: str | None = None,
        pretrained: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        pythia_device: str = "cpu",
        draft: str | None = None,
        draft_max: int | None = None,
        draft_min: int | None = None,
        **options: Any,
    ) -> None:
        """Open ``path``, which ``pretrained`` may name as well.

        The harness always gives a ``device``, by default a GPU, so that says nothing: a model runs on the processor
        unless ``pythia_device`` names another. Batches are as large as memory allows, whatever ``batch_size`` says. A
        ``draft`` model is opened like the other.
        """
        super().__init__()
        file = path or pretrained
        if file is None:
            raise ValueError("pythia_gguf: found no path, wanted --model_args path=FILE")
        self.model = Model(file, device=pythia_device, **options)
        self._device = self.model.device
        drafter = Model(draft, device=pythia_device, **options) if draft not in (None, "lookup") else draft
        self._draft: dict[str, Any] = {"draft": drafter, "draft_max": draft_max, "draft_min": draft_min}

    @property
    def max_length(self) -> int:
        """Tokens that the model can see."""
        return self.model.n_ctx

    @property
    def tokenizer_name(self) -> str:
        """For the keys of the harness's cache."""
        return str(self.model.path)

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """``(ln p, is greedy)`` of each continuation after its context."""
        pairs = [(context, continuation) for context, continuation in (request.args for request in requests)]
        return self._kept("loglikelihood", requests, self.model.log_likelihoods(pairs))

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of each whole text."""
        texts = [request.args[0] for request in requests]
        return self._kept("loglikelihood_rolling", requests, self.model.rolling_log_likelihoods(texts))

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context."""
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(index)
        texts = [""] * len(requests)
        for indices in groups.values():
            contexts = [requests[index].args[0] for index in indices]
            written = self._write(contexts, requests[indices[0]].args[1])
            for index, text in zip(indices, written, strict=True):
                texts[index] = text
        return self._kept("generate_until", requests, texts)

    def _write(self, contexts: list[str], gen_kwargs: dict[str, Any]) -> list[str]:
        settings = normalize_gen_kwargs(gen_kwargs, MAX_GEN_TOKS)
        unknown = {name for name, value in settings.items() if value is not None} - SAMPLING - OTHER
        if unknown:
            raise ValueError(f"pythia_gguf: gen_kwargs: found {', '.join(sorted(unknown))}, which it does not know")
        until, limit = list(settings["until"]), settings["max_gen_toks"]
        # A penalty changes greedy choices too.
        if not settings["do_sample"] and settings.get("repetition_penalty", 1.0) == 1.0:
            return self.model.generate_until(contexts, until=until, max_new_tokens=limit, **self._draft)
        sampling = {name: settings[name] for name in SAMPLING if settings.get(name) is not None}
        if not settings["do_sample"]:
            sampling["temperature"] = 0.0
        seed = settings.get("seed", 0)
        return [self._sample(context, until, limit, seed=seed, **sampling) for context in contexts]

    def _sample(self, context: str, until: list[str], limit: int, **sampling: Any) -> str:
        room = self.max_length - limit
        if room <= 0:
            raise ValueError(f"pythia_gguf: found max_gen_toks {limit}, wanted less than the context of {self.max_length}")
        # What is too long loses its start, as in the harness.
        prompt = self.model.tokenize(context)[-room:] or context
        stop = [text for text in until if text]
        return "".join(self.model.generate(prompt, max_new_tokens=limit, stop=stop, **sampling, **self._draft))

    def _kept(self, method: str, requests: Sequence[Instance], results: list[Any]) -> list[Any]:
        """The results, told to the harness's cache as well."""
        for request, result in zip(requests, results, strict=True):
            self.cache_hook.add_partial(method, request.args, result)
        return results
