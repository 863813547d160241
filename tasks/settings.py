"""Where things live and how a machine is used: environment variables and `bertpress.toml`, never the study file."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from compression.runtime import Runtime

SETTINGS_FILE = "bertpress.toml"


def _settings_file() -> Path | None:
    """The nearest `bertpress.toml` at or above the working directory."""
    here = Path.cwd()
    return next(
        (folder / SETTINGS_FILE for folder in (here, *here.parents) if (folder / SETTINGS_FILE).is_file()), None
    )


class Settings(BaseSettings):
    """Settings of one machine. An environment variable `BERTPRESS_<FIELD>` wins over `bertpress.toml`.

    Example:
        >>> Settings(home="/tmp/example", threads=1).store_folder.as_posix()
        '/tmp/example/store'
    """

    model_config = SettingsConfigDict(env_prefix="BERTPRESS_", extra="forbid", frozen=True)

    home: Path = Field(Path("~/.bertpress"), description="Artifacts, records, locks, embedded databases")
    data_folder: Path | None = Field(None, description="Root of local data files and of glue/<task>/<split>.parquet")
    mlflow_tracking_uri: str | None = Field(
        None,
        description="MLflow store; SQLite in the home folder by default",
        validation_alias=AliasChoices("BERTPRESS_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI", "mlflow_tracking_uri"),
    )
    prefect_api_url: str | None = Field(
        None,
        description="Prefect server to use when it answers; an embedded one otherwise",
        validation_alias=AliasChoices("BERTPRESS_PREFECT_API_URL", "PREFECT_API_URL", "prefect_api_url"),
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="torch device type")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="Arithmetic of training")
    threads: int | None = Field(
        None, ge=1, description="torch threads of a process; cores / (workers * processes) by default"
    )
    workers: int = Field(1, ge=1, description="Stages side by side; above 1, each in a process of its own")
    processes: int = Field(
        1,
        ge=1,
        description="Processes that train a stage together, each with its share of every batch; on CUDA a GPU each",
    )
    dataloader_workers: int = Field(0, ge=0, description="Processes that prepare batches")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Constructor, then environment, then `bertpress.toml`; see pydantic-settings."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _settings_file())

    @cached_property
    def home_folder(self) -> Path:
        """Absolute home folder."""
        return self.home.expanduser().resolve()

    @property
    def store_folder(self) -> Path:
        """Folder of artifacts."""
        return self.home_folder / "store"

    @property
    def record_folder(self) -> Path:
        """Folder of cache records, one file a stage key."""
        return self.home_folder / "records"

    @property
    def lock_folder(self) -> Path:
        """Folder of lock files; must be on a local disk."""
        return self.home_folder / "locks"

    @property
    def study_folder(self) -> Path:
        """Folder of what each study's runs left: key parts, cells, reports."""
        return self.home_folder / "studies"

    @property
    def cache_folder(self) -> Path:
        """Folder of what stages derive from their inputs and share; everything in it can be made again."""
        return self.home_folder / "cache"

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI; absolute, so that it does not depend on the working directory."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home_folder / 'mlflow.db'}"

    @property
    def mlflow_artifact_folder(self) -> Path:
        """Folder of MLflow's own artifacts (tables, plots, study files) when the store is local."""
        return self.home_folder / "mlflow-artifacts"

    def runtime(self) -> Runtime:
        """Device, precision and threads of one stage on this machine.

        Returns:
            The runtime with every `auto` resolved.
        """
        whole = Runtime.detect(self.device, self.precision, self.threads, self.dataloader_workers)
        at_once = self.workers * self.processes
        if self.threads or at_once == 1:
            return whole
        return Runtime(whole.device, whole.precision, max(1, whole.threads // at_once), self.dataloader_workers)


_current: list[Settings] = []


def current_settings() -> Settings:
    """Settings of this process: those given to `use_settings`, else from environment and file.

    Returns:
        The settings.
    """
    return _current[-1] if _current else Settings()


def use_settings(settings: Settings) -> None:
    """Make settings those of this process.

    Args:
        settings: the settings.
    """
    _current[:] = [settings]
