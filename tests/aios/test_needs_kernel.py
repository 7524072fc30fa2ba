"""A real AIOS kernel: what a call needs, what a core costs, and what the start says of both."""

from __future__ import annotations

import json
from typing import Any

from eccos_aios.sandbox.server import SandboxCore

MANIFEST = {
    "cores": [
        {
            "name": "small",
            "price": {"input": 0.1, "output": 0.1},
            "context_window": 4096,
            "supports": ["tools"],
        },
        {"name": "large", "price": {"input": 5, "output": 5}},
        {"name": "unpriced"},
    ]
}
ECCOS = {"scheduler_type": "eccos", "eccos": {"manifest": "cores.yaml", "quality_target": 0.0}}
CHINESE = "请把这份租房合同逐条改写成普通人能看懂的话并指出对租客不利的地方。"


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def test_calls_go_where_they_fit_and_the_start_names_what_an_operator_should_mend(aios: Any) -> None:
    names = ("small", "large", "unpriced", "small")
    small, large, unpriced, twin = cores = [SandboxCore(name).start() for name in names]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    try:
        with aios.kernel(cores, ECCOS, {"cores.yaml": json.dumps(MANIFEST)}) as kernel:
            for content in ("half \ud83d a pair", [{"type": "image_url", "image_url": {}}]):
                assert kernel.query("", **user(content))["status_code"] == 400
            assert [core.requests for core in cores] == [0, 0, 0, 0]
            assert kernel.query("hello", max_new_tokens=100)["error"] is None
            assert kernel.query(CHINESE * 120)["error"] is None
            assert kernel.query("word " * 2500, max_new_tokens=2000)["error"] is None
            assert kernel.query("", **user([picture]))["error"] is None
            text, status = kernel.text, kernel.request("/eccos/status")
        # an unknown price counts as the dearest, so these two cost the same
        assert (small.requests, large.requests + unpriced.requests, twin.requests) == (1, 3, 0)
        assert {core["state"] for core in status["cores"].values()} == {"ok"}
        assert "core 'unpriced' has no price" in text
        assert f"core 'small' at {twin.base_url} never serves" in text
    finally:
        for core in cores:
            core.stop()
