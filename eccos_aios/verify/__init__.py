"""Checks of answers without the right ones, and keys by which two answers agree. See the README here."""

from eccos_aios.verify.base import PASSES, Answer, AnswerCheck, Check, Question, fails, key_of
from eccos_aios.verify.check import check_answer, installed_checks, load_checks
from eccos_aios.verify.recorded import CallHistory, call_history, check_record, recorded_answer

__all__ = [
    "PASSES",
    "Answer",
    "AnswerCheck",
    "CallHistory",
    "Check",
    "Question",
    "call_history",
    "check_answer",
    "check_record",
    "fails",
    "installed_checks",
    "key_of",
    "load_checks",
    "recorded_answer",
]
