"""Schedule agents' calls with ECCOS on the embedded kernel, over two sandbox cores.

The embedded kernel queues and waits as AIOS does, so this is the whole path without AIOS.
Run it with ``python examples/embedded_kernel.py``.
"""

import json
import tempfile
from pathlib import Path

from eccos_aios import EccosConfig, EccosScheduler
from eccos_aios.sandbox import EmbeddedKernel, LLMQuery, SandboxCore, error_response

folder = Path(tempfile.mkdtemp())
manifest = folder / "cores.yaml"
manifest.write_text(
    json.dumps(
        {
            "cores": [
                {"name": "cheap", "quota": 2, "price": {"input": 0.1, "output": 0.1}},
                {"name": "dear", "quota": 4, "price": {"input": 5, "output": 15}},
            ]
        }
    )
)
config = EccosConfig(manifest=manifest, quality_target=0.5, max_wait_s=0.1)


def scheduler(**aios_parameters: object) -> EccosScheduler:
    return EccosScheduler(**aios_parameters, config=config, response=error_response)


with (
    SandboxCore("cheap", latency_s=0.1) as cheap,
    SandboxCore("dear", latency_s=0.1) as dear,
    EmbeddedKernel([cheap, dear], scheduler, query_threads=16) as kernel,
):
    answers = [
        kernel.query(
            f"agent-{number}", LLMQuery(messages=[{"role": "user", "content": f"Question {number}"}])
        )
        for number in range(12)
    ]
    for answer in answers:
        print(answer.result()["response"].response_message)
    print(json.dumps(kernel.scheduler.status(), indent=2))
    for core in (cheap, dear):
        print(f"{core.name}: {core.requests} calls, at most {core.max_in_flight} at once")
