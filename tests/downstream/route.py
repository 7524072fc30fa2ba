"""What a project that uses eccos-aios writes; mypy strict checks it against the installed wheel."""

from eccos_aios import Core, HybridPredictor, Router, Routing, read_history


def route(history: str, queries: list[str], cores: list[Core]) -> Routing:
    predictor = HybridPredictor().fit(read_history(history))
    return Router(cores, predictor).route(queries, quality_target=0.8)


def cores_of(routing: Routing) -> list[str | None]:
    return [call.core for call in routing]
