"""A process that is asked to end stops its scheduler at once, and is gone in time."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from eccos_aios.hooks import ending
from eccos_aios.hooks.ending import Ending

WAIT_S = 30.0
PROCESS = """
import os, signal, sys, threading, time
from types import SimpleNamespace
from eccos_aios.errors import EccosError
from eccos_aios.hooks import ending

ended = threading.Event()

def say(line):
    os.write(1, (line + "\\n").encode())  # whole, whichever thread says it

def stop():
    say("stopped")
    ended.set()

def by_server(number, frame):
    say("server has it")

signal.signal(signal.SIGTERM, by_server)
signal.signal(signal.SIGINT, by_server)
ending.SLACK_S = 0.2
scheduler = SimpleNamespace(stop=stop, config=SimpleNamespace(grace_s={grace_s}))
ending.ACTIVE = SimpleNamespace(scheduler={scheduler})
watched = ending.Ending(lambda: say("begun"))
watched.watch()
watched.watch()
os.kill(os.getpid(), signal.{number})
os.kill(os.getpid(), signal.{number})
{then}
"""
HANG = """
lock = threading.Lock(); lock.acquire()
threading.Thread(target=lock.acquire).start()  # no daemon, as AIOS's are
say("hangs")
lock.acquire()
"""
END = """
assert ended.wait(20)
watched.done.result(20)
watched.release()
assert signal.getsignal(signal.SIGTERM) is by_server
say("ends")
"""


def run(then: str, number: str = "SIGTERM", grace_s: float = 0.1, scheduler: str = "scheduler") -> Any:
    script = textwrap.dedent(PROCESS).format(then=then, number=number, grace_s=grace_s, scheduler=scheduler)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S, check=False
    )


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_begins_the_stop_and_reaches_the_server(number: str) -> None:
    done = run(END, number, grace_s=100)
    assert done.returncode == 0, done.stderr
    told = done.stdout.split("\n")
    assert told.count("server has it") == 2
    assert [line for line in told if line != "server has it"] == ["begun", "stopped", "ends", ""]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_process_that_hangs_is_gone_after_its_grace(number: str) -> None:
    done = run(HANG, number)
    assert done.returncode == 128 + getattr(signal, number)
    assert "stopped" in done.stdout


def test_without_a_scheduler_of_ours_the_server_alone_has_the_signal() -> None:
    done = run("watched.done.result(20); say('ends')", scheduler="None")
    assert (done.returncode, done.stdout.split()) == (0, ["server", "has", "it"] * 2 + ["ends"])


def test_a_server_that_ends_by_itself_stops_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    scheduler = SimpleNamespace(stop=stopped.set, config=SimpleNamespace(grace_s=0.0))
    monkeypatch.setattr(ending, "ACTIVE", SimpleNamespace(scheduler=scheduler))
    handlers = [signal.getsignal(number) for number in ending.SIGNALS]
    watched = Ending(lambda: None)
    watched.watch()
    watched.begin()
    watched.done.result(WAIT_S)
    watched.release()
    assert stopped.is_set()
    assert [signal.getsignal(number) for number in ending.SIGNALS] == handlers


def test_a_stop_that_fails_is_an_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "ACTIVE", SimpleNamespace(scheduler=SimpleNamespace(config=None)))
    watched = Ending(lambda: None)
    watched.watch()
    watched.begin()
    watched.done.result(WAIT_S)
    watched.release()
