"""The MLflow run of one stage that really runs: its curves, its machine's load, its data set and its checkpoint."""

import json
import logging
import math
import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks import mlflow_store, tracking_values
from tasks.tracking_values import NOTE_TAG, now, valid_name

KIND_TAG, STAGE_KEY_TAG, DIGEST_TAG, URI_TAG, MODEL_TAG = (
    "bertpress.kind",
    "bertpress.stage_key",
    "bertpress.digest",
    "bertpress.uri",
    "bertpress.model_id",
)
_FLUSH_SECONDS = 2.0
_FLUSH_POINTS = 200
_RETRY_SECONDS = 30.0
_KEPT_POINTS = 100_000
_SYSTEM_METRICS_AFTER_SECONDS = 10.0
_NOT_CURVES = frozenset({"step", "epoch"})

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetUse:
    """A data set as the record names it.

    Attributes:
        name: the task's name.
        digest: our own hash of its content; MLflow's samples rows and misses changes.
        source: where it came from.
        context: what it was used for.
    """

    name: str
    digest: str
    source: str = ""
    context: str = "training"

    def as_inputs(self) -> list[Any]:
        """MLflow's record of it, for the inputs of a run.

        Returns:
            One `DatasetInput`; none when the digest is empty, for a stage that reads no rows.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if not self.digest:
            return []
        # MLflow keeps 36 characters of a digest; the whole is in a tag.
        data = Dataset(self.name[:500], self.digest[:12], "local", json.dumps({"uri": self.source or self.name}))
        return [DatasetInput(data, [InputTag("mlflow.data.context", self.context), InputTag(DIGEST_TAG, self.digest)])]


class StageRun:
    """Handle on a stage's run, made by `Tracker.stage_run`. In a `with`, it closes the run however the stage ends.

    A store that stops answering costs a warning, never the training that is being logged.
    """

    def __init__(self, tracking_uri: str, run_id: str, *, checkpoint_name: str | None, system_metrics: bool) -> None:
        self.run_id = run_id
        self._client = mlflow_store.client(tracking_uri)
        self._checkpoint_name = checkpoint_name
        self._waiting: list[Any] = []
        self._seen: set[tuple[str, int]] = set()
        self._not_finite: dict[str, str] = {}
        self._next_flush = time.monotonic() + _FLUSH_SECONDS
        self._open = True
        self._warned = False
        self._system_metrics = _SystemMetrics(tracking_uri, run_id) if system_metrics else None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log values measured at a step; they are written in batches, every two seconds or so.

        A step that comes again, after a resume, counts once.

        Args:
            step: step of the training loop.
            metrics: name -> value; infinite values and NaN go into a tag.
        """
        from mlflow.entities import Metric

        moment = now()
        for given, value in metrics.items():
            # Plots are grouped by prefix and the groups sorted: the curves come before the summary's numbers.
            name = valid_name(f"curves/{given}")
            if not math.isfinite(value):
                self._not_finite.setdefault(given, f"step {step}")
            elif given not in _NOT_CURVES and (name, step) not in self._seen:
                self._seen.add((name, step))
                self._waiting.append(Metric(name, float(value), moment, step))
        full = len(self._waiting) >= _FLUSH_POINTS and not self._warned
        if full or time.monotonic() >= self._next_flush:
            self._flush()

    def log_history(self, file: Path) -> None:
        """Log the points of a `history.jsonl` that are not logged yet: what an earlier, killed attempt measured.

        Args:
            file: JSON objects, one a line, each with `step`; nothing happens when it does not exist.
        """
        lines = file.read_text().splitlines() if file.exists() else []
        for line in lines:
            try:
                point = json.loads(line)
            except ValueError:
                return  # the line that was being written when the earlier attempt died
            self.log(point["step"], tracking_values.numbers(point))

    def finish(self, meta: Mapping[str, Any], *, digest: str, uri: str) -> None:
        """Close the run as FINISHED, with what the stage left behind.

        Args:
            meta: the stage's summary; its numbers become metrics, its texts parameters.
            digest: digest of the artifact.
            uri: where the artifact lies.
        """
        flat = tracking_values.flatten(meta, "/")
        # Under a name of their own: MLflow refuses a parameter that changes a setting's value.
        texts = {f"summary/{name}": value for name, value in flat.items() if isinstance(value, str)}
        metrics, not_finite = tracking_values.finite(tracking_values.numbers(meta))
        self._not_finite |= dict.fromkeys(not_finite, "summary")

        def write_summary() -> None:
            points, params = tracking_values.points(metrics, now()), tracking_values.parameters(texts)
            tags = {DIGEST_TAG: digest, URI_TAG: uri}
            tracking_values.write(self._client, self.run_id, metrics=points, params=params, tags=tags)

        def write_checkpoint() -> None:
            if self._checkpoint_name:
                model_id = self._record_checkpoint(digest, uri)
                self._client.set_tag(self.run_id, MODEL_TAG, model_id)

        self._close("FINISHED", write_summary, write_checkpoint)

    def fail(self, error: BaseException) -> None:
        """Close the run as FAILED, with the error as its description and the stack as an artifact.

        Args:
            error: what ended the stage.
        """
        summary = f"{type(error).__name__}: {error}"
        stack = "".join(traceback.format_exception(error))

        def write_error() -> None:
            shown = tracking_values.note(f"**Failed**\n\n```\n{summary}\n```", "see error.txt")
            tracking_values.write(self._client, self.run_id, tags={"error": summary[:500], NOTE_TAG: shown})
            self._client.log_text(self.run_id, stack, "error.txt")

        self._close("FAILED", write_error)

    def kill(self) -> None:
        """Close the run as KILLED: it was stopped on request and can be resumed."""
        self._close("KILLED")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if error is not None and isinstance(error, Exception):
            self.fail(error)
        else:
            # Stopped (KeyboardInterrupt is no Exception), or left without a product.
            self.kill()

    def _record_checkpoint(self, digest: str, uri: str) -> str:
        """Show the checkpoint under Models, by reference: a copy would double the disk."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        experiment = self._client.get_run(self.run_id).info.experiment_id
        words = re.findall(r"\w+", f"{self._checkpoint_name} {digest[:8]}")
        model = self._client.create_logged_model(
            experiment,
            name="-".join(words),
            source_run_id=self.run_id,
            tags={"mlflow.model.isExternal": "true", DIGEST_TAG: digest, URI_TAG: uri},
            params={"digest": digest, "uri": uri},  # the page of a model shows these, and no tags
        )
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self._client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_id)

    def _close(self, status: str, *last_writes: Callable[[], None]) -> None:
        if not self._open:
            return
        self._open = False
        if self._system_metrics:
            self._system_metrics.stop()
        self._flush()
        if self._not_finite:
            listed = ", ".join(f"{name} ({where})" for name, where in self._not_finite.items())
            self._guarded(lambda: tracking_values.write(self._client, self.run_id, tags={"not_finite": listed}))
        for write in last_writes:
            self._guarded(write)
        self._guarded(lambda: self._client.set_terminated(self.run_id, status))

    def _flush(self) -> None:
        waiting = self._waiting[-_KEPT_POINTS:]
        if self._guarded(lambda: tracking_values.write(self._client, self.run_id, metrics=waiting)):
            self._waiting = []
            self._next_flush = time.monotonic() + _FLUSH_SECONDS
        else:
            self._waiting = waiting
            self._next_flush = time.monotonic() + _RETRY_SECONDS

    def _guarded(self, write: Callable[[], object]) -> bool:
        """Whether a write succeeded; hours of training must not be lost to a store that is away."""
        try:
            write()
        except Exception as error:
            if not self._warned:
                _logger.warning("MLflow run %s: not all could be logged (%s)", self.run_id, error)
            self._warned = True
            return False
        return True


class _SystemMetrics:
    """MLflow's monitor of processors, memory, disk and network; started late, as it costs more than a short stage."""

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        # Imported here: two threads that import MLflow's modules at once can find each other's half ready.
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._make_monitor = partial(SystemMetricsMonitor, run_id, tracking_uri=tracking_uri)
        self._lock = threading.Lock()
        self._monitor: Any = None
        self._timer = threading.Timer(_SYSTEM_METRICS_AFTER_SECONDS, self._start)
        self._timer.daemon = True
        self._timer.start()

    def _start(self) -> None:
        with self._lock:
            if self._timer.finished.is_set():
                return
            try:
                self._monitor = self._make_monitor()
                self._monitor.start()
            except Exception as error:
                _logger.warning("the machine's load is not recorded (%s)", error)

    def stop(self) -> None:
        self._timer.cancel()
        with self._lock:
            if self._monitor is not None:
                self._monitor.finish()
