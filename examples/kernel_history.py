"""Let a kernel fill its own history: outcomes as calls end, quality as feedback comes.

The store is made at start. Run it with ``python examples/kernel_history.py``.
"""

import json
import tempfile
from pathlib import Path

from eccos_aios import EccosConfig, EccosScheduler, HistoryStore
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore, error_response

folder = Path(tempfile.mkdtemp())
manifest = folder / "cores.yaml"
manifest.write_text(
    json.dumps({"cores": [{"name": "only", "quota": 4, "price": {"input": 0.15, "output": 0.6}}]})
)
config = EccosConfig(manifest=manifest, history=folder / "history.db")


def scheduler(**aios_parameters: object) -> EccosScheduler:
    return EccosScheduler(**aios_parameters, config=config, response=error_response)


with SandboxCore("only") as core, EmbeddedKernel([core], scheduler) as kernel:
    for number in range(5):
        query = LLMQuery(messages=[{"role": "user", "content": f"Question {number}"}])
        kernel.query(f"agent-{number}", query).result()
    # What POST /eccos/feedback does: by the agent whose call finished last, or by the call's id.
    kernel.scheduler.give_quality(0.9, agent="agent-3")
    newest = kernel.scheduler.service.scheduler.decisions()[0]
    kernel.scheduler.give_quality(0.2, call=newest.id)

store = HistoryStore(folder / "history.db", read_only=True)
for outcome in store.outcomes():
    print(outcome.agent, outcome.core, f"{outcome.cost_usd:.7f} dollars", "quality:", outcome.quality)
print(f"predictors learn from {sum(1 for _ in store.records())} of them: those whose quality is known")
