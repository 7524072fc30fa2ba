"""Wrong input is refused with the field and the value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eccos_aios.assign import AssignmentProblem

RIGHT: dict[str, Any] = {
    "cost": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]],
    "quality": [[0.5, 0.9], [0.5, 0.9], [0.5, 0.9]],
    "quota": [2, 2],
    "target": 0.7,
}


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("cost", [0.1, 0.2], "(2,)"),
        ("cost", [[0.1, np.nan], [0.3, 0.4], [0.5, 0.6]], "nan"),
        ("cost", [[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]], "-0.4"),
        ("cost", [[0.1, 0.2], [0.3], [0.5, 0.6]], "array"),
        ("cost", [["a", "b"]] * 3, "numbers"),
        ("quality", [[0.5, 0.9]], "(1, 2)"),
        ("quality", [[0.5, 0.9], [0.5, 1.5], [0.5, 0.9]], "1.5"),
        ("quality", [[0.5, np.inf], [0.5, 0.9], [0.5, 0.9]], "inf"),
        ("quota", [2, -1], "-1"),
        ("quota", [2, 1.5], "1.5"),
        ("quota", [2, 2, 2], "(3,)"),
        ("target", 1.01, "1.01"),
        ("target", -0.5, "-0.5"),
        ("target", float("nan"), "nan"),
        ("target", "0.8", "'0.8'"),
        ("target", True, "True"),
        ("allowed", [[1, 0]] * 3, "int"),
        ("allowed", [[True, False]], "(1, 2)"),
        ("weight", [1.0, np.nan, 1.0], "nan"),
        ("weight", [1.0], "(1,)"),
        ("target_deficit", float("inf"), "inf"),
        ("budget", -1.0, "-1.0"),
        ("seconds", [1.0, -2.0], "-2.0"),
        ("seconds", [[1.0, 2.0]], "(1, 2)"),
        ("price_per_second", 0.1, "seconds"),
        ("price_per_second", -0.1, "-0.1"),
    ],
)
def test_wrong_input_names_the_field_and_shows_the_value(field: str, value: object, shown: str) -> None:
    with pytest.raises(ValueError) as raised:
        AssignmentProblem(**{**RIGHT, field: value})
    message = str(raised.value)
    assert message.startswith(field)
    assert shown in message
    assert "\n" not in message


def test_lists_and_other_number_types_become_arrays_of_the_agreed_types() -> None:
    problem = AssignmentProblem(
        cost=np.array(RIGHT["cost"], dtype=np.float32),
        quality=RIGHT["quality"],
        quota=np.array([2.0, 1e30]),
        target=np.float32(0.5),
    )
    assert problem.cost.dtype == problem.quality.dtype == np.float64
    assert problem.quota.dtype == np.int64
    assert problem.quota[1] > 1e15
    assert type(problem.target) is float
