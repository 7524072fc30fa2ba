"""Cores, outcomes and predictors that several kernels share, over Redis."""

from eccos_aios.shared.leased_slots import LEASE_S, LeasedSlots, SlotShare
from eccos_aios.shared.local_slots import LocalSlotTable
from eccos_aios.shared.redis_slots import RedisSlotTable
from eccos_aios.shared.slots import (
    Answer,
    CoreClaim,
    CoreGrant,
    Exchange,
    SlotTable,
    TableUnavailableError,
    shares_of,
)

__all__ = [
    "LEASE_S",
    "Answer",
    "CoreClaim",
    "CoreGrant",
    "Exchange",
    "LeasedSlots",
    "LocalSlotTable",
    "RedisSlotTable",
    "SlotShare",
    "SlotTable",
    "TableUnavailableError",
    "shares_of",
]
