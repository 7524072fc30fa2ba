"""Cores, outcomes and predictors that several kernels share, over Redis."""

from eccos_aios.shared.connection import SharedUnavailableError, without_password
from eccos_aios.shared.event_relay import EventRelay
from eccos_aios.shared.events import Event, EventKind, EventLog, LoggedEvent
from eccos_aios.shared.inspection import RedisFacts, inspect_redis
from eccos_aios.shared.leased_slots import LeasedSlots, SlotShare
from eccos_aios.shared.local_events import LocalEventLog
from eccos_aios.shared.local_slots import LocalSlotTable
from eccos_aios.shared.predictor_relay import PredictorRelay
from eccos_aios.shared.publication import (
    LocalPublication,
    PredictorPublication,
    Published,
    RedisPublication,
)
from eccos_aios.shared.redis_events import RedisEventLog
from eccos_aios.shared.redis_slots import RedisSlotTable
from eccos_aios.shared.slots import (
    Answer,
    CoreClaim,
    CoreGrant,
    Exchange,
    SlotTable,
    shares_of,
)

__all__ = [
    "LEASE_S",
    "Answer",
    "CoreClaim",
    "CoreGrant",
    "Event",
    "EventKind",
    "EventLog",
    "EventRelay",
    "Exchange",
    "LeasedSlots",
    "LocalEventLog",
    "LocalPublication",
    "LocalSlotTable",
    "LoggedEvent",
    "PredictorPublication",
    "PredictorRelay",
    "Published",
    "RedisEventLog",
    "RedisFacts",
    "RedisPublication",
    "RedisSlotTable",
    "SharedUnavailableError",
    "SlotShare",
    "SlotTable",
    "inspect_redis",
    "shares_of",
    "without_password",
]
