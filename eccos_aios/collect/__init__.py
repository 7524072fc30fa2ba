"""Collecting a history: every core is asked every question, answers are graded and recorded."""

from typing import Literal

Format = Literal["jsonl", "gsm8k", "mmlu", "squad", "hotpotqa"]  # of a question set

__all__ = ["Format"]
