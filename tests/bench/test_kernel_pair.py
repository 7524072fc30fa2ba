"""The pair of ``bench kernel`` is worth choosing between, and what it costs is counted."""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest

from eccos_aios.bench.kernel_pair import PAIR, cost_usd, pair_questions
from eccos_aios.predict import HybridPredictor, query_text
from eccos_aios.sandbox import SandboxCore


def test_the_history_tells_on_which_questions_the_cheap_core_will_do() -> None:
    questions = pair_questions(96)
    assert not {q.text for q in questions.past} & {q.text for q in questions.asked}
    names = [core.name for core in PAIR]
    predictor = HybridPredictor().fit(questions.history())
    quality = predictor.predict([query_text(q.text) for q in questions.asked], names).quality
    easy = np.array([q.level <= PAIR[1].level for q in questions.asked])
    assert 0.3 < easy.mean() < 0.7
    assert quality[:, 0].min() > 0.8
    assert quality[easy, 1].mean() > 0.8
    assert quality[~easy, 1].mean() < 0.3


@pytest.mark.integration
def test_what_the_cores_counted_is_priced() -> None:
    questions = pair_questions(2)
    dear, cheap = PAIR
    with SandboxCore(dear.name, questions.reply_of(dear)) as server, SandboxCore(cheap.name) as idle:
        body = {"model": dear.name, "messages": [{"role": "user", "content": questions.asked[0].text}]}
        request = urllib.request.Request(
            f"{server.base_url}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
        assert answer["choices"][0]["message"]["content"] == dear.answer(questions.asked[0], questions.seed)
        usage = answer["usage"]
        expected = usage["prompt_tokens"] * 2.5e-6 + usage["completion_tokens"] * 10e-6
        assert cost_usd([server, idle]) == pytest.approx(expected)
