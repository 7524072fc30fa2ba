"""Route a batch of questions over three cores: least cost such that mean quality reaches a target.

Run it with ``python examples/route_a_batch.py``; it needs nothing but eccos-aios.
"""

from eccos_aios import Core, Outcome, Price, Record, RetrievalPredictor, Router

cores = [
    Core(name="small", quota=4, price=Price(input=0.1, output=0.1)),
    Core(name="medium", quota=4, price=Price(input=0.5, output=0.5)),
    Core(name="large", quota=4, price=Price(input=5.0, output=5.0)),
]

# The history of past calls: every core adds, the medium one knows capitals too, only the large one proves.
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
questions = [question.format(100 + i, 7) for i in range(3) for question in able]

router = Router(cores, RetrievalPredictor().fit(history))
for target in (0.5, 0.7, 0.9):
    routing = router.route(questions, quality_target=target)
    print(
        f"\nquality target {target}: {routing.predicted_quality:.2f} predicted, ${routing.predicted_cost:.6f}"
    )
    for question, call in zip(questions, routing, strict=True):
        print(f"  {call.core or call.reason:7} {question}")
