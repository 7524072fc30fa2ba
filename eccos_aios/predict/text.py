"""Messages and tools -> the text that is embedded, and its token count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHARACTERS_PER_TOKEN = 4.0  # of English prose in the common tokenizers


@dataclass(frozen=True)
class CallText:
    """What stage 1 sees of a call: the text that is embedded, and its input tokens."""

    text: str
    input_tokens: float
