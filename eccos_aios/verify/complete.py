"""CompleteCheck: an answer is there, and was not cut."""

from __future__ import annotations

from eccos_aios.verify.base import PASSES, Answer, AnswerCheck, Check, Question, fails

CUT = ("length", "max_tokens")  # finish reasons, as OpenAI and Anthropic spell them
REFUSED = ("content_filter",)


class CompleteCheck(Check):
    """Fails an answer that is empty or null, was cut at the token limit, or was withheld by a filter."""

    def check(self, question: Question, answer: Answer) -> AnswerCheck:
        if answer.finish_reason in CUT:
            return fails(f"cut: finish_reason {answer.finish_reason}")
        if answer.finish_reason in REFUSED:
            return fails(f"withheld: finish_reason {answer.finish_reason}")
        if not answer.tool_calls and not (answer.text or "").strip():
            return fails("empty")
        return PASSES
