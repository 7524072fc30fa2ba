"""Questions of graded difficulty whose answers are computed, so that any answer can be graded."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from eccos_aios.collect.grade import exact, numeric, without_thinking

LEVELS = 4  # 0 is the easiest
MAX_ATTEMPTS = 50  # to generate a new question, for each question wanted

NAMES = ("Anna", "Boris", "Chen", "Dalia", "Emeka", "Farah", "Goran", "Hana")
GOODS = ("apples", "pencils", "tickets", "stamps", "marbles", "bricks", "coins", "cups")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WORDS = (
    "anchor", "basket", "candle", "desert", "engine", "forest", "garden", "hammer", "island", "jacket",
    "kettle", "ladder", "magnet", "needle", "orange", "pepper", "quartz", "ribbon", "silver", "temple",
    "velvet", "window", "yellow", "zipper", "bridge", "copper", "dragon", "falcon", "guitar", "harbor",
    "lantern", "mountain", "notebook", "painting", "railroad", "sandwich", "telescope", "umbrella",
)  # fmt: skip


@dataclass(frozen=True)
class GeneratedQuestion:
    """A question, its true answer, and its difficulty.

    Attributes
    ----------
    text : str
        The question.
    truth : str
        A number, a word, or a date written ``1 March 2024``.
    category : str
        One of `CATEGORIES`.
    level : int
        0 to `LEVELS` - 1.
    """

    text: str
    truth: str
    category: str
    level: int


def make_questions(count: int, seed: int) -> list[GeneratedQuestion]:
    """`count` different questions, cycling through all categories and levels.

    Raises
    ------
    ValueError
        There are fewer different questions than that.
    """
    rng = random.Random(f"questions {seed}")
    questions: dict[str, GeneratedQuestion] = {}
    kinds = [(category, level) for level in range(LEVELS) for category in CATEGORIES]
    for attempt in range(count * MAX_ATTEMPTS):
        if len(questions) == count:
            break
        category, level = kinds[attempt % len(kinds)]
        text, truth = CATEGORIES[category](rng, level)
        questions.setdefault(text, GeneratedQuestion(text, str(truth), category, level))
    if len(questions) < count:
        raise ValueError(f"count: {count!r}: there are only {len(questions)} different questions")
    return list(questions.values())


def _arithmetic(rng: random.Random, level: int) -> tuple[str, object]:
    if level == 0:
        a, b = rng.randint(2, 60), rng.randint(2, 39)
        return rng.choice(("What is {} + {}?", "Add {} and {}.")).format(a, b), a + b
    if level == 1:
        a, b = rng.randint(12, 99), rng.randint(3, 9)
        return rng.choice(("What is {} × {}?", "Multiply {} by {}.")).format(a, b), a * b
    a, b, c = rng.randint(102, 987), rng.randint(12, 98), rng.randint(103, 999)
    if level == 2:
        return rng.choice(("What is {} × {}?", "Multiply {} by {}.")).format(a, b), a * b
    return f"Compute ({a} × {b} − {c}) × {b % 7 + 3}, and give the exact result.", (a * b - c) * (b % 7 + 3)


def _units(rng: random.Random, level: int) -> tuple[str, object]:
    n = rng.randint(2, 95)
    if level == 0:
        thing, unit, factor = rng.choice(
            (("kilometres", "metres", 1000), ("hours", "minutes", 60), ("kilograms", "grams", 1000))
        )
        return f"Convert {n} {thing} to {unit}.", n * factor
    if level == 1:
        hours, minutes = rng.randint(2, 30), rng.randint(1, 59)
        return f"How many minutes are {hours} hours and {minutes} minutes?", hours * 60 + minutes
    if level == 2:
        return f"Convert a speed of {n * 18} kilometres per hour to metres per second.", n * 5
    litres, rate = n * rng.randint(3, 9), rng.choice((2, 4, 5))
    return (
        f"A tank holds {litres * rate / 1000:g} cubic metres and is filled at {rate} litres per minute. "
        "After how many minutes is it full?",
        litres,
    )


def _dates(rng: random.Random, level: int) -> tuple[str, object]:
    day = date(1950, 1, 1) + timedelta(days=rng.randrange(36_000))
    if level == 0:
        start, days = rng.choice(WEEKDAYS), rng.randint(1, 6)
        then = WEEKDAYS[(WEEKDAYS.index(start) + days) % 7]
        return f"Today is {start}. Which day of the week is it in {days} days?", then
    if level == 1:
        start, days = rng.choice(WEEKDAYS), rng.randint(8, 90)
        then = WEEKDAYS[(WEEKDAYS.index(start) + days) % 7]
        return f"If today is {start}, which weekday will it be {days} days from now?", then
    if level == 2:
        days = rng.randint(20, 120)
        return f"Which date comes {days} days after {_written(day)}?", _written(day + timedelta(days=days))
    return f"On which weekday did {_written(day)} fall in the Gregorian calendar?", WEEKDAYS[day.weekday()]


def _strings(rng: random.Random, level: int) -> tuple[str, object]:
    word = rng.choice(WORDS)
    if level == 0:
        end, position = rng.choice((("first", 0), ("second", 1), ("last", -1)))
        return f"What is the {end} letter of the word “{word}”?", word[position]
    if level == 1:
        other = rng.choice(WORDS)
        return f"How many letters have “{word}” and “{other}” together?", len(word) + len(other)
    if level == 2:
        return f"Write the word “{word}” backwards.", word[::-1]
    shift = rng.randint(2, 11)
    letters = string.ascii_lowercase
    coded = word.translate(str.maketrans(letters, letters[shift:] + letters[:shift]))
    return f"Encrypt “{word}” with a Caesar cipher that shifts each letter forward by {shift}.", coded


def _sequences(rng: random.Random, level: int) -> tuple[str, object]:
    start, step = rng.randint(1, 40), rng.randint(2, 12)
    if level == 0:
        terms, following = _terms(start, lambda value, _: value + step)
        return f"Which number comes next: {terms}?", following
    if level == 1:
        terms, following = _terms(start % 9 + 1, lambda value, _: value * (step % 3 + 2))
        return f"The ratio of neighbours is constant in {terms}. Which number comes next?", following
    if level == 2:
        terms, following = _terms(start, lambda value, place: value + step * place)
        return f"The differences grow evenly in {terms}. Which number comes next?", following
    a, b = start, step
    values = [a, b]
    while len(values) < 8:
        values.append(values[-1] + values[-2] + 1)
    shown = ", ".join(map(str, values[:7]))
    return (
        f"Each term from the third on is the sum of the two terms before it plus one: {shown}. "
        "Which number follows?",
        values[7],
    )


def _stories(rng: random.Random, level: int) -> tuple[str, object]:
    name, other = rng.sample(NAMES, 2)
    goods = rng.choice(GOODS)
    a, b, c = rng.randint(20, 90), rng.randint(3, 19), rng.randint(2, 9)
    if level == 0:
        return f"{name} has {a} {goods} and gives {b} of them to {other}. How many are left?", a - b
    if level == 1:
        return f"{name} buys {b} boxes of {c} {goods} each and already has {a}. How many are there now?", (
            a + b * c
        )
    if level == 2:
        price = rng.randint(3, 25)
        return (
            f"{name} sells {a} {goods} at {price} dollars each, and {other} sells {b} at twice that price. "
            "How many dollars do they earn together?",
            a * price + 2 * b * price,
        )
    fast, slow, hours = rng.randint(60, 95), rng.randint(30, 55), rng.randint(2, 6)
    return (
        f"{name} and {other} drive towards each other from two towns at {fast} and {slow} kilometres per "
        f"hour. {other} starts {hours} hours earlier and they meet {c} hours after {name} starts. "
        "How many kilometres are the towns apart?",
        slow * (hours + c) + fast * c,
    )


def _written(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def _terms(start: int, following: Callable[[int, int], int]) -> tuple[str, int]:
    values = [start]
    for place in range(1, 6):
        values.append(following(values[-1], place))
    return ", ".join(map(str, values[:5])), values[5]


CATEGORIES: dict[str, Callable[[random.Random, int], tuple[str, object]]] = {
    "arithmetic": _arithmetic,
    "units": _units,
    "dates": _dates,
    "strings": _strings,
    "sequences": _sequences,
    "stories": _stories,
}


def is_right(answer: str | None, truth: str) -> bool:
    """Whether `answer` gives `truth` as its result; None stands for no answer."""
    if answer is None:
        return False
    text = without_thinking(answer)
    return bool(numeric(text, [truth]) if grader_of(truth) == "numeric" else exact(text, [truth]))


def grader_of(truth: str) -> Literal["numeric", "exact"]:
    """The grader of a generated question: by a number, or by a word or a date."""
    return "numeric" if truth.lstrip("-").isdigit() else "exact"
