"""Route a batch of questions over three cores: least cost such that mean quality reaches a target.

Run it with ``python examples/route_a_batch.py``; it needs nothing but eccos-aios.
"""

import numpy as np

from eccos_aios import AssignmentProblem, Core, Outcome, Price, Record, RetrievalPredictor, solve
from eccos_aios.predict import query_text

cores = [
    Core(name="small", quota=4, price=Price(input=0.1, output=0.1)),
    Core(name="medium", quota=4, price=Price(input=0.5, output=0.5)),
    Core(name="large", quota=4, price=Price(input=5.0, output=5.0)),
]

# What past calls taught: every core adds, the medium one knows capitals too, only the large one proves.
able = {
    "What is {} plus {}?": {"small", "medium", "large"},
    "What is the capital of country {} in year {}?": {"medium", "large"},
    "Prove that the sequence {} over {} converges.": {"large"},
}
history = [
    Record(
        query=question.format(number, number + 1),
        outputs=tuple(Outcome(model_name=core.name, correctness=core.name in right) for core in cores),
    )
    for question, right in able.items()
    for number in range(20)
]
predictor = RetrievalPredictor().fit(history)

questions = [question.format(100 + i, 7) for i in range(3) for question in able]
estimates = predictor.predict([query_text(question) for question in questions], [core.name for core in cores])

for target in (0.5, 0.7, 0.9):
    assignment = solve(
        AssignmentProblem(
            cost=estimates.cost(cores),
            quality=estimates.quality,
            quota=np.array([core.slots for core in cores]),
            target=target,
        )
    )
    print(f"\nquality target {target}: {assignment.quality:.2f} predicted, ${assignment.cost:.6f}")
    for question, column in zip(questions, assignment.core, strict=True):
        print(f"  {cores[column].name:7} {question}")
