"""A Redis that asks for a password, and one that speaks TLS; the password is nowhere to be read."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from experiments.redis_server import RedisServer

from eccos_aios.config import eccos_config
from eccos_aios.errors import ConfigError, EccosError
from eccos_aios.runtime.sharing import KernelSharing, SharedCores
from eccos_aios.shared import inspect_redis

WAIT_S = 20.0
PASSWORD = "a/secret@word#1"
IN_URL = quote(PASSWORD, safe="")

MakeSharing = Callable[[str], KernelSharing]


@pytest.fixture
def make_sharing(caplog: pytest.LogCaptureFixture) -> Iterator[MakeSharing]:
    """A kernel's part in what is shared; checks at the end that no password was logged."""
    caplog.set_level(logging.DEBUG)
    made: list[KernelSharing] = []

    def make(url: str) -> KernelSharing:
        sharing = KernelSharing(
            SharedCores(url, "test", lease_s=10.0),
            on_slots=lambda: None,
            on_core=lambda *report: None,
            on_outcome=lambda outcome, stage_of: None,
            on_grade=lambda call_id, quality: None,
            take_account=dict,
            on_account=lambda account: None,
            scheduler_status=lambda: STATUS,
            on_predictor=lambda content: None,
        )
        made.append(sharing)
        sharing.configure({"core": 2})
        sharing.start()
        sharing.want({"core": 1})
        return sharing

    yield make
    for sharing in made:
        sharing.stop()
        assert has_no_password(json.dumps(sharing.status(STATUS)))
    assert has_no_password(caplog.text)


STATUS = {
    "pending": 0,
    "cores": {},
    "totals": {"submitted": 0, "completed": 0, "failed": 0, "predicted_quality": 0.0, "cost_usd": 0.0},
}


def has_no_password(text: str) -> bool:
    return not any(part in text for part in (PASSWORD, IN_URL, "secret"))


def gets_a_slot(sharing: KernelSharing) -> bool:
    end_s = time.monotonic() + WAIT_S
    while sharing.take("core") is None:
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def restart(server: RedisServer, *options: str) -> None:
    server.kill()
    server.start(*options)


def test_a_password_in_the_url_is_used_and_shown_nowhere(
    redis_server: RedisServer, make_sharing: MakeSharing
) -> None:
    restart(redis_server, "--requirepass", PASSWORD)
    sharing = make_sharing(f"redis://:{IN_URL}@127.0.0.1:{redis_server.port}/0")
    assert gets_a_slot(sharing), sharing.degraded()
    assert sharing.status(STATUS)["redis"] == f"redis://127.0.0.1:{redis_server.port}/0"


@pytest.mark.parametrize("login", ["", f"user:{IN_URL}@"])
def test_without_the_right_password_the_kernel_says_so_without_showing_it(
    redis_server: RedisServer, make_sharing: MakeSharing, login: str
) -> None:
    restart(redis_server, "--requirepass", "another-word")
    sharing = make_sharing(f"redis://{login}127.0.0.1:{redis_server.port}/0")
    end_s = time.monotonic() + WAIT_S
    while not any("uthentication" in line or "WRONGPASS" in line for line in sharing.degraded()):
        assert time.monotonic() < end_s, sharing.degraded()
        time.sleep(0.01)
    assert has_no_password(" ".join(sharing.degraded()))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "redis.crt", tmp_path / "redis.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def test_kernels_share_over_tls_with_a_certificate_that_is_checked(
    redis_server: RedisServer, make_sharing: MakeSharing, certificate: tuple[Path, Path]
) -> None:
    public, key = map(str, certificate)
    tls = ["--port", "0", "--tls-port", str(redis_server.port), "--tls-auth-clients", "no"]
    tls += ["--tls-cert-file", public, "--tls-key-file", key, "--requirepass", PASSWORD]
    restart(redis_server, *tls)
    url = f"rediss://:{IN_URL}@127.0.0.1:{redis_server.port}/0"
    trusting = make_sharing(f"{url}?ssl_ca_certs={public}")
    assert gets_a_slot(trusting), trusting.degraded()
    assert inspect_redis(f"{url}?ssl_ca_certs={public}", "test").problems() == []
    with pytest.raises(EccosError, match="certificate verify failed"):
        inspect_redis(url, "test")


@pytest.mark.parametrize("password", ["a/secret", "a#secret", "a?secret", "a[secret"])
def test_a_password_that_is_not_encoded_is_refused_without_showing_it(tmp_path: Path, password: str) -> None:
    (tmp_path / "cores.yaml").write_text("cores: [{name: a}]")
    section = {"manifest": "cores.yaml", "shared": f"redis://:{password}@127.0.0.1:6379/0"}
    with pytest.raises(ConfigError, match=r"scheduler\.eccos\.shared: .*%2F") as refused:
        eccos_config(section, tmp_path / "config.yaml")
    assert "secret" not in str(refused.value)


def test_an_unknown_option_in_the_url_is_refused_at_once(make_sharing: MakeSharing) -> None:
    with pytest.raises(EccosError, match="unexpected keyword argument 'sll'"):
        make_sharing(f"redis://:{IN_URL}@127.0.0.1:6379/0?sll=yes")
