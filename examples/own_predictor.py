"""Bring a predictor of your own, and run it in a kernel by configuration.

A class with `fit` and `predict` is enough. AIOS's config names it as ``predictor: module:Class`` (a module on
the Python path) or, as below, ``predictor: path/to/file.py:Class``, relative to the config's folder.
Arguments of its constructor are ``predictor_options``. ``assign``, ``bench`` and ``explain`` take it as
``--predictor``. Run this file with ``python examples/own_predictor.py``; AIOS is not needed.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from eccos_aios import CallText, EccosScheduler, Estimates, Predictor, Record, read_eccos_config
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore, error_response


class ByLength(Predictor):
    """Expects short questions to be easy, and the cores that come later in the manifest to be better."""

    def __init__(self, tokens: float = 20.0) -> None:
        self.tokens = tokens  # that the first core can still answer

    def fit(self, history: Sequence[Record]) -> "ByLength":
        return self

    def predict(self, calls: Sequence[CallText], cores: Sequence[str]) -> Estimates:
        tokens = np.array([[call.input_tokens] for call in calls])
        quality = np.exp(-tokens / (self.tokens * 10.0 ** np.arange(len(cores))))
        answer = np.full_like(quality, 100.0)
        return Estimates(quality, np.broadcast_to(tokens, quality.shape), answer, np.zeros_like(quality))


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    prices = {"small": {"output": 0.1}, "large": {"output": 10.0}}
    manifest = {"cores": [{"name": name, "price": price} for name, price in prices.items()]}
    section = {
        "manifest": "cores.yaml",
        "predictor": f"{__file__}:ByLength",
        "predictor_options": {"tokens": 50},
    }
    (folder / "cores.yaml").write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text(json.dumps({"scheduler": {"eccos": section}}))
    config = read_eccos_config(folder / "config.yaml")
    scheduler = partial(EccosScheduler, config=config, response=error_response)
    with (
        SandboxCore("small") as small,
        SandboxCore("large") as large,
        EmbeddedKernel([small, large], scheduler) as kernel,
    ):
        for question in ("2 + 2?", "Explain, with every lemma that you use, why " + "it converges " * 60):
            kernel.query("agent", LLMQuery(messages=[{"role": "user", "content": question}])).result()
            print(f"{question[:40]!r}: small has answered {small.requests}, large {large.requests}")


if __name__ == "__main__":
    main()
