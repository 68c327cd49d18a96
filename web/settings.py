"""Settings: read once, from the environment (`CLEARLOT_...`), by `web/cli.py` and the tests."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The embedded default is complete; production gives its own values (`compose.yaml`)."""

    model_config = SettingsConfigDict(env_prefix="CLEARLOT_", frozen=True, extra="forbid")

    data: Path = Path("data")  # the embedded default's folder: database, objects, mail
    database_url: str = ""  # "" : sqlite in `data`
    objects_url: str = ""  # "" : a folder in `data`; else s3://key:secret@host:port/bucket[?secure=1]
    redis_url: str = ""  # "" : events stay in the process, jobs run in it
    mail_url: str = ""  # "" : the outbox page only; else smtp://host:port
    base_url: str = "http://127.0.0.1:8000"  # what people type; its origin is the only one allowed
    host: str = "127.0.0.1"
    port: int = 8000
    demo: bool = False  # one-time sign-in links and simulated bidders; refused unless `host` is loopback
    secret: SecretStr = SecretStr("")  # at least 32 bytes; the embedded default makes and keeps its own
    signing_key: SecretStr = SecretStr("")  # Ed25519 seed, base64; the embedded default keeps its own
    log_level: str = "INFO"
    log_file: Path | None = None  # without one the log goes to the error stream; with one, that has a line a problem
    trusted_proxies: str = "127.0.0.1"
    commands_per_second: int = 20  # bids and proxies of one party on one node (docs/live-protocol.md, Limits)
    commands_burst: int = 40
    outage_s: float = 4.0  # of silence of all nodes (each one's heart beats every second): then nobody could bid
    max_upload_bytes: int = 512 * 1024 * 1024

    @property
    def database(self) -> str:
        """The database's address."""
        return self.database_url or f"sqlite:///{(self.data / 'clearlot.db').absolute()}"

    @property
    def objects(self) -> str:
        """The object store's address."""
        return self.objects_url or (self.data / "objects").absolute().as_uri()
