"""Learning between fits: new outcomes count at once, a newer fit takes their place."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eccos_aios.history import Outcome, Record
from eccos_aios.predict import HybridPredictor, ResidualOnlinePredictor, query_text, refit_is_due
from eccos_aios.predict.drift import DriftDetector
from eccos_aios.predict.recent_outcomes import BLOCK, MAX_BLOCKS, RecentOutcomes
from eccos_aios.predict.residual_memory import CAPACITY, ResidualMemory

TOPICS = ("the capital city of a country in Europe", "the derivative of a polynomial function")


def record(number: int, topic: str, **quality: float) -> Record:
    outputs = tuple(Outcome(model_name=core, quality=value) for core, value in quality.items())
    return Record(id=str(number), query=f"Question {number} about {topic}", outputs=outputs)


def history(count: int = 60) -> list[Record]:
    return [record(n, TOPICS[n % 2], steady=float(n % 10 < 8), other=float(n % 10 < 5)) for n in range(count)]


@pytest.fixture(scope="module")
def fitted() -> HybridPredictor:
    return HybridPredictor().fit(history())


def quality(predictor: ResidualOnlinePredictor, query: str, cores: Sequence[str]) -> list[float]:
    estimates: list[float] = predictor.predict([query_text(query)], cores).quality[0].tolist()
    return estimates


def test_without_news_it_says_what_the_fit_says(fitted: HybridPredictor) -> None:
    call, cores = [query_text("Question 3 about anything")], ["other", "unknown", "steady"]
    learning = ResidualOnlinePredictor(fitted).predict(call, cores)
    np.testing.assert_array_equal(learning.quality, fitted.predict(call, cores).quality)


def test_what_is_like_a_new_outcome_follows_it_at_once_and_other_calls_do_not(
    fitted: HybridPredictor,
) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    like, unlike = f"Question 7 about {TOPICS[0]}", f"Question 7 about {TOPICS[1]}"
    before = quality(predictor, like, ["other"]), quality(predictor, unlike, ["other"])
    predictor.learn([record(100 + n, TOPICS[0], other=0.0) for n in range(4)])
    assert quality(predictor, like, ["other"])[0] < before[0][0] - 0.1
    assert quality(predictor, unlike, ["other"])[0] == pytest.approx(before[1][0], abs=0.08)
    assert quality(predictor, like, ["steady"])[0] == pytest.approx(
        quality(ResidualOnlinePredictor(fitted), like, ["steady"])[0], abs=1e-9
    )


def test_a_core_that_gets_worse_is_told_of_once_with_its_first_bad_record(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    good = [record(100 + n, TOPICS[n % 2], steady=float(n % 10 > 1)) for n in range(40)]
    bad = [record(200 + n, TOPICS[n % 2], steady=0.0) for n in range(40)]
    assert predictor.learn(good) == []
    news = [drift for each in bad for drift in predictor.learn([each])]
    assert [drift.core for drift in news] == ["steady"]
    assert news[0].shift < -0.3
    assert news[0].since is not None and 198 <= int(news[0].since) <= 202
    assert quality(predictor, "Something else entirely", ["steady"])[0] < 0.35


def test_learning_one_by_one_is_learning_all_at_once(fitted: HybridPredictor) -> None:
    news = [record(100 + n, TOPICS[n % 2], steady=float(n % 3 == 0), fresh=1.0) for n in range(30)]
    at_once, one_by_one = ResidualOnlinePredictor(fitted), ResidualOnlinePredictor(fitted)
    at_once.learn(news)
    for each in news:
        one_by_one.learn([each])
    call, cores = [query_text(f"Question 9 about {TOPICS[1]}")], ["steady", "fresh", "other"]
    np.testing.assert_allclose(
        at_once.predict(call, cores).quality, one_by_one.predict(call, cores).quality, atol=1e-6
    )


def test_a_core_that_nobody_knew_is_learned_from_nothing() -> None:
    predictor = ResidualOnlinePredictor(HybridPredictor().fit([]))
    predictor.learn([record(n, TOPICS[0], good=1.0, bad=0.0) for n in range(10)])
    good, bad = quality(predictor, "Anything at all", ["good", "bad"])
    assert good > 0.7 and bad < 0.3


def test_a_newer_fit_takes_the_place_and_keeps_what_it_has_not_seen(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    predictor.learn([record(100 + n, TOPICS[0], other=0.0) for n in range(30)])
    newer = HybridPredictor().fit(history())
    predictor.rebase(newer, [])
    assert predictor.fitted is newer and predictor.shifts == {}
    predictor.rebase(newer, [record(200 + n, TOPICS[0], other=0.0) for n in range(30)])
    assert predictor.shifts["other"] < -0.2


def test_readers_never_see_half_of_what_is_learned(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    calls, cores = (
        [query_text(f"Question {n} about {TOPICS[n % 2]}") for n in range(8)],
        ["steady", "other", "x"],
    )
    done = threading.Event()

    def read() -> int:
        read = 0
        while not done.is_set():
            estimates = predictor.predict(calls, cores).quality
            assert np.isfinite(estimates).all() and (estimates >= 0).all() and (estimates <= 1).all()
            read += 1
        return read

    with ThreadPoolExecutor(2, thread_name_prefix="reader") as readers:
        reads = [readers.submit(read) for _ in range(2)]
        for n in range(60):
            predictor.learn([record(100 + n, TOPICS[n % 2], steady=0.0, **({"x": 1.0} if n % 2 else {}))])
            if n % 20 == 19:
                predictor.rebase(fitted, [record(300 + n, TOPICS[0], other=1.0)])
        done.set()
        assert all(each.result() for each in reads)


def test_recent_records_are_bounded_and_the_oldest_go() -> None:
    recent, cell = ResidualMemory.empty(2), np.full((100, 1), 0.5)
    for _ in range(3 * CAPACITY // 100):
        recent = recent.with_rows(np.tile(np.float32([1, 0]), (100, 1)), cell, 0 * cell)
    for _ in range(CAPACITY // 100 + 1):
        recent = recent.with_rows(np.tile(np.float32([1, 0]), (100, 1)), cell, 2 * cell)
    assert len(recent.vectors) <= 3 * CAPACITY
    like = recent.residuals(np.zeros(1), np.zeros(1))
    assert like.expected(np.float32([[1, 0]]))[0, 0] == pytest.approx(0.5, abs=0.01)


def test_a_fit_is_due_after_a_share_of_what_was_fitted() -> None:
    assert not refit_is_due(19, 0) and refit_is_due(20, 0)
    assert not refit_is_due(999, 4000) and refit_is_due(1000, 4000)


def test_a_fit_waits_for_certainty_but_not_for_ever() -> None:
    assert not refit_is_due(1500, 4000, suspecting=True)
    assert refit_is_due(3000, 4000, suspecting=True)


CALLS = [query_text(f"Question {n} about {TOPICS[n % 2]}") for n in range(20)]
CORES = ["steady", "other", "fresh"]


def estimates(predictor: ResidualOnlinePredictor) -> np.ndarray:
    return predictor.predict(CALLS, CORES).quality


def outcomes(count: int, first: int = 100) -> list[Record]:
    draw = np.random.default_rng(0)
    return [
        record(first + n, TOPICS[n % 2], steady=float(draw.random() < 0.8), other=float(draw.random() < 0.5))
        for n in range(count)
    ]


def test_sixty_grades_of_one_call_are_one(fitted: HybridPredictor) -> None:
    once, sixty = ResidualOnlinePredictor(fitted), ResidualOnlinePredictor(fitted)
    bad = record(1000, TOPICS[0], steady=0.0)
    once.learn([*outcomes(50), bad])
    sixty.learn(outcomes(50))
    before = quality(sixty, "Something else entirely", ["steady"])[0]
    for turn in range(60):
        assert sixty.learn([bad] if turn % 2 else [bad, bad]) == []
    np.testing.assert_allclose(estimates(sixty), estimates(once), atol=1e-6)
    assert quality(sixty, "Something else entirely", ["steady"])[0] > before - 0.05
    assert (sixty.calls, sixty.changes) == (51, [])


def test_a_correction_ends_where_the_right_word_would_have(fitted: HybridPredictor) -> None:
    corrected, right = ResidualOnlinePredictor(fitted), ResidualOnlinePredictor(fitted)
    told = outcomes(160)
    for position, each in enumerate(told):
        outputs = tuple(outcome.model_copy(update={"quality": 0.2}) for outcome in each.outputs)
        corrected.learn([each.model_copy(update={"outputs": outputs})])
        if position >= 40 and position % 3 == 0:
            corrected.learn([told[position - 40]])
    corrected.learn(told)
    right.learn(told)
    np.testing.assert_allclose(estimates(corrected), estimates(right), atol=1e-6)
    assert corrected.shifts == pytest.approx(right.shifts, abs=1e-6)
    assert corrected.calls == right.calls == 160


def test_what_is_said_of_a_call_and_another_core_is_added(fitted: HybridPredictor) -> None:
    in_parts, at_once = ResidualOnlinePredictor(fitted), ResidualOnlinePredictor(fitted)
    told = outcomes(40)
    in_parts.learn([record(int(each.id or 0), TOPICS[0], fresh=1.0) for each in told[:1]])
    in_parts.learn(told)
    in_parts.learn([record(100 + n, TOPICS[n % 2], fresh=1.0) for n in range(40)])
    at_once.learn(
        [
            record(
                100 + n, TOPICS[n % 2], **{o.model_name: o.graded_quality for o in each.outputs}, fresh=1.0
            )
            for n, each in enumerate(told)
        ]
    )
    assert in_parts.calls == at_once.calls == 40
    np.testing.assert_allclose(estimates(in_parts), estimates(at_once), atol=1e-5)


def test_records_without_an_id_count_each(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    nameless = record(1, TOPICS[0], steady=0.0).model_copy(update={"id": None})
    predictor.learn([nameless] * 3)
    predictor.learn([nameless] * 4)
    assert predictor.calls == 7


def test_a_change_is_never_concluded_from_a_few_calls(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    predictor.learn(outcomes(60))
    before = quality(predictor, "Something else entirely", ["steady"])[0]
    few = [record(1000 + n, TOPICS[n % 2], steady=0.0) for n in range(3)]
    for _ in range(30):
        assert predictor.learn(few) == []
    assert predictor.changes == []
    assert quality(predictor, "Something else entirely", ["steady"])[0] > before - 0.2
    more = [record(2000 + n, TOPICS[n % 2], steady=0.0) for n in range(30)]
    assert [drift.core for each in more for drift in predictor.learn([each])] == ["steady"]


def test_a_change_that_was_taken_back_is_none(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    predictor.learn(outcomes(60))
    before = estimates(predictor)
    slander = [record(1000 + n, TOPICS[n % 2], steady=0.0) for n in range(30)]
    assert predictor.learn(slander)
    assert [change.core for change in predictor.changes] == ["steady"]
    predictor.learn([record(1000 + n, TOPICS[n % 2], steady=0.8) for n in range(30)])
    assert predictor.changes == []
    np.testing.assert_allclose(estimates(predictor)[:, 0], before[:, 0], atol=0.1)


def test_a_newer_fit_goes_on_counting_a_call_once(fitted: HybridPredictor) -> None:
    predictor, straight = ResidualOnlinePredictor(fitted), ResidualOnlinePredictor(fitted)
    told = outcomes(40)
    predictor.learn(outcomes(10, first=500))
    predictor.rebase(fitted, [*told, *told[5:9]])
    for _ in range(20):
        predictor.learn([told[3]])
    straight.learn(told)
    assert predictor.calls == 40
    np.testing.assert_allclose(estimates(predictor), estimates(straight), atol=1e-6)


def test_what_cannot_be_learned_leaves_what_was_learned(fitted: HybridPredictor) -> None:
    predictor = ResidualOnlinePredictor(fitted)
    predictor.learn(outcomes(30))
    before = estimates(predictor)
    odd = record(900, TOPICS[0], steady=0.5)
    odd = odd.model_copy(update={"outputs": (odd.outputs[0].model_copy(update={"quality": 7.0}),)})
    with pytest.raises(ValueError, match="quality"):
        predictor.learn([record(901, TOPICS[0], fresh=1.0), odd])
    with pytest.raises(ValueError, match="quality"):
        predictor.rebase(fitted, [odd])
    np.testing.assert_array_equal(estimates(predictor), before)
    assert predictor.calls == 30


def test_however_long_there_is_no_fit_what_is_remembered_is_bounded(
    fitted: HybridPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eccos_aios.predict.online.REMEMBERED_CALLS", 500)
    predictor = ResidualOnlinePredictor(fitted)
    for start in range(0, 4000, 500):
        predictor.learn([record(start + n, TOPICS[n % 2], steady=0.8) for n in range(500)])
    since = predictor._since
    assert predictor.calls == 4000
    assert len(since._numbers) == 500
    assert sum(len(block.numbers) for block in since._outcomes["steady"]._blocks) <= BLOCK * MAX_BLOCKS
    assert len(since._memory.vectors) <= 3 * CAPACITY
    before = estimates(predictor)
    predictor.learn([record(3999, TOPICS[1], steady=0.8)])
    np.testing.assert_allclose(estimates(predictor), before, atol=1e-6)


def test_a_log_with_corrections_is_the_detector_that_heard_the_right_words() -> None:
    draw = np.random.default_rng(2)
    log, detector = RecentOutcomes(), DriftDetector()
    said = [(float(draw.uniform(0.5, 1)), float(draw.random() < 0.7), f"c{n}") for n in range(700)]
    for number, (predicted, right, call) in enumerate(said):
        log.put(number, predicted, 1.0 - right if number % 7 == 0 else right, call)
        detector.add(predicted, right, call)
        if number % 50 == 49:
            for earlier in range(number - 49, number + 1):
                log.put(earlier, said[earlier][0], said[earlier][1], said[earlier][2])
    assert log.detector.change == detector.change
    assert (log.detector.shift, log.detector.since) == (detector.shift, detector.since)


def test_a_log_leaves_what_is_too_old_as_it_is() -> None:
    log, detector = RecentOutcomes(), DriftDetector()
    for number in range(BLOCK * MAX_BLOCKS + 300):
        log.put(number, 0.8, float(number % 5 > 0))
        detector.add(0.8, float(number % 5 > 0))
    log.put(3, 0.8, 0.0)
    assert log.detector.change == detector.change
