"""Sandbox cores that a command serves: the made-up ones, or those of a history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from eccos_aios.collect.formats import BUILTIN_QUESTIONS, BUILTIN_SEED
from eccos_aios.collect.generated import make_questions
from eccos_aios.core import Core, read_manifest
from eccos_aios.demo.made_up_cores import MADE_UP_CORES, reply_of
from eccos_aios.errors import ABSENT, ConfigError, HistoryError, InputError
from eccos_aios.history import Record, read_history
from eccos_aios.sandbox import Replay, SandboxCore
from eccos_aios.sandbox.server import ReplyFunction

MARK = "# Sandbox cores, written by `eccos-aios sandbox`; the addresses are those of its last run.\n"
LOOPBACK_NAMES = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class LocalCore:
    """A core to serve: its answers, and its port; 0 means any free one."""

    core: Core
    reply: ReplyFunction
    port: int


def local_cores(cores: Path | None, history: Path | None, *, seed: int, free_ports: bool) -> list[LocalCore]:
    """The cores of a manifest or of a history, or the made-up ones.

    Parameters
    ----------
    cores : Path, optional
        The manifest. Default: the history's cores, without prices, or the made-up ones.
    history : Path, optional
        Its outcomes are replayed. Default: made-up cores answer the built-in questions.
    seed : int
        Of the made-up cores' answers.
    free_ports : bool
        Ignore the manifest's addresses.

    Raises
    ------
    HistoryError, ConfigError
        A file is wrong, there are no outcomes of a core, no made-up core has its name, or its address is
        not on this machine.
    """
    records = None if history is None else read_history(history)
    played = _cores(cores, records, str(history))
    replies = _replies(played, records, seed, str(cores))
    ports = [0 if free_ports else _port(core, place, str(cores)) for place, core in enumerate(played)]
    return [LocalCore(core, reply, port) for core, reply, port in zip(played, replies, ports, strict=True)]


@contextmanager
def serve_cores(cores: Sequence[LocalCore], time_scale: float) -> Iterator[list[Core]]:
    """Serve cores; yields them with their addresses.

    Raises
    ------
    ConfigError
        A port is taken.
    """
    with ExitStack() as stack:
        at = []
        for local in cores:
            server = SandboxCore(local.core.name, local.reply, time_scale=time_scale, port=local.port)
            try:
                stack.enter_context(server)
            except OSError as error:
                where = f"port {local.port} for core {local.core.name!r}"
                raise ConfigError(where, "", ABSENT, f"cannot be listened on: {error.strerror}") from error
            at.append(local.core.model_copy(update={"base_url": server.base_url}))
        yield at


def require_own_manifest(manifest: Path) -> None:
    """Refuse to overwrite a manifest that this command did not write.

    Raises
    ------
    InputError
        The file is not one of this command.
    """
    if manifest.exists() and not (manifest.is_file() and manifest.read_bytes().startswith(MARK.encode())):
        raise InputError(
            "--write-manifest", "", str(manifest), "exists, and this command did not write it; name another"
        )


def write_manifest(manifest: Path, cores: Sequence[Core]) -> None:
    """Write a manifest atomically, so that a process that waits for the file reads it whole.

    Raises
    ------
    InputError
        It cannot be written.
    """
    listed = [
        core.model_dump(mode="json", include=core.model_fields_set - {"api_key_env"}, exclude_none=True)
        for core in cores
    ]
    draft = manifest.with_name(f".{manifest.name}.draft")
    try:
        draft.write_text(MARK + yaml.safe_dump({"cores": listed}, sort_keys=False), encoding="utf-8")
        draft.replace(manifest)
    except OSError as error:
        raise InputError(str(manifest), "", ABSENT, f"cannot be written: {error.strerror}") from error


def _cores(cores: Path | None, records: list[Record] | None, history: str) -> tuple[Core, ...]:
    if cores is not None:
        return read_manifest(cores).cores
    if records is None:
        return tuple(made_up.core for made_up in MADE_UP_CORES)
    names = {outcome.model_name: None for record in records for outcome in record.outputs}
    if not names:
        raise HistoryError(history, "", ABSENT, "holds no outcomes to replay")
    return tuple(Core(name=name) for name in names)


def _replies(
    cores: Sequence[Core], records: list[Record] | None, seed: int, source: str
) -> list[ReplyFunction]:
    if records is not None:
        replays = [Replay(records, core.name) for core in cores]
        for place, replay in enumerate(replays):
            if not len(replay):
                raise ConfigError(
                    source, f"cores[{place}].name", replay.core, "the history has no outcomes of it"
                )
        return list(replays)
    questions = make_questions(BUILTIN_QUESTIONS, BUILTIN_SEED)
    known = {made_up.core.name: made_up for made_up in MADE_UP_CORES}
    for place, core in enumerate(cores):
        if core.name not in known:
            allowed = f"the made-up cores are {', '.join(known)}; --history replays others"
            raise ConfigError(source, f"cores[{place}].name", core.name, allowed)
    return [reply_of(known[core.name], questions, seed) for core in cores]


def _port(core: Core, place: int, source: str) -> int:
    parts = urlsplit(core.base_url or "")
    if (
        parts.scheme != "http"
        or parts.hostname not in LOOPBACK_NAMES
        or parts.path != "/v1"
        or not parts.port
    ):
        raise ConfigError(
            source,
            f"cores[{place}].base_url",
            ABSENT if core.base_url is None else core.base_url,
            "must be http://127.0.0.1:PORT/v1; or write a manifest with free ports, --write-manifest FILE",
        )
    return parts.port
