"""Bring a predictor of your own: here one that believes short questions to be easy.

Any `Predictor` fits the scheduler; it learns with ``fit`` and estimates whole batches with ``predict``.
Run it with ``python examples/own_predictor.py``.
"""

import threading

import numpy as np

from eccos_aios import Call, CallText, Core, Estimates, Predictor, Price, Scheduler
from eccos_aios.predict import query_text
from eccos_aios.schedule import CallResult, ExecutionResult, Requirements


class ByLength(Predictor):
    """Quality falls with the length of the question, least on the cores that come last."""

    def fit(self, history):
        return self

    def predict(self, calls: list[CallText], cores: list[str]) -> Estimates:
        tokens = np.array([call.input_tokens for call in calls])[:, None]
        strength = np.linspace(10, 200, len(cores))
        quality = np.exp(-tokens / strength)
        return Estimates(
            quality=quality,
            input_tokens=np.broadcast_to(tokens, quality.shape),
            output_tokens=np.full(quality.shape, 100.0),
            support=np.zeros(quality.shape),
        )


def execute(call: Call, core: str) -> ExecutionResult:
    return ExecutionResult(f"{core} answers {call.payload!r}")


cores = [Core(name="small", price=Price(output=0.1)), Core(name="large", price=Price(output=10))]
scheduler = Scheduler(cores, ByLength().fit([]), execute)
scheduler.start()
answered = threading.Semaphore(0)


def show(call: Call, result: CallResult) -> None:
    print(result.value)
    answered.release()


questions = ["2 + 2?", "Explain, step by step and with every lemma that you use, why " + "it converges " * 20]
for question in questions:
    text = query_text(question)
    scheduler.submit(
        Call(text=text, requirements=Requirements(text.input_tokens), payload=question[:40], on_done=show)
    )
    answered.acquire()
scheduler.stop()
