"""The AIOS adapter: the only package that imports AIOS, and only after AIOS itself is imported."""

from __future__ import annotations

from eccos_aios.lazy import lazy_names

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without the import: this runs at every start of AIOS
# NumPy, SciPy, scikit-learn and FAISS take seconds to import: each name brings only what it needs.
if TYPE_CHECKING:
    from eccos_aios.hooks.activate import activate as activate
    from eccos_aios.hooks.factories import eccos_scheduler_nonblock as eccos_scheduler_nonblock
    from eccos_aios.hooks.factories import useEccosScheduler as useEccosScheduler
    from eccos_aios.hooks.routing import EccosRouting as EccosRouting
    from eccos_aios.hooks.scheduler import EccosScheduler as EccosScheduler
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "activate": "activate",
            "factories": "eccos_scheduler_nonblock useEccosScheduler",
            "routing": "EccosRouting",
            "scheduler": "EccosScheduler",
        },
    )
