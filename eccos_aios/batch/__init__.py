"""The offline batch: queries of a file, routed over the cores of a manifest once per quality target."""

from eccos_aios.batch.output import summary, write_file, write_lines
from eccos_aios.batch.planned import PlannedRouting
from eccos_aios.batch.queries import Query, read_queries
from eccos_aios.batch.route import Batch, assign_batch, assign_files

__all__ = [
    "Batch",
    "PlannedRouting",
    "Query",
    "assign_batch",
    "assign_files",
    "read_queries",
    "summary",
    "write_file",
    "write_lines",
]
