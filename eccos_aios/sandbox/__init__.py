"""Cores that replay recorded answers on the loopback interface, and the embedded kernel."""

from eccos_aios.sandbox.fault import FAULT_KINDS, Fault, FaultKind
from eccos_aios.sandbox.replay import Replay
from eccos_aios.sandbox.reply import Reply
from eccos_aios.sandbox.server import SandboxCore

__all__ = ["FAULT_KINDS", "Fault", "FaultKind", "Replay", "Reply", "SandboxCore"]
