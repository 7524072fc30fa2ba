"""What a store keeps of a call whose text it leaves out."""

from __future__ import annotations

from eccos_aios.history import Record
from eccos_aios.predict.embedders.hashed import class_counts
from eccos_aios.predict.features import shape_of
from eccos_aios.predict.text import record_text, split_tools
from eccos_aios.predict.text_free import packed


def embedding_of(record: Record) -> str:
    """The `Record.embedding` of a record that still has its text."""
    call = record_text(record)
    query, tools = class_counts(split_tools(call.text))
    return packed(query, tools, shape_of([call])[0])
