"""What both engines have at work: a model that separates jobs, several at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING

from splitter.audio import Reading, open_song
from splitter.errors import SplitterError, StoppedError, reason
from splitter.jobs import Job
from splitter.outputs import Output, plan_stems
from splitter.runtime.computing import Computing, Streaming
from splitter.songs import Separated, Watch, separate_song, unwatched

if TYPE_CHECKING:
    from splitter.engines.sharing import SharedNetwork
    from splitter.loading import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """How jobs are to be done; the same for all of them."""

    output: Output = field(default_factory=Output)
    reading: Reading = field(default_factory=Reading)
    computing: Computing = field(default_factory=Computing)  # batch 0: what a GPU's memory holds


@dataclass(frozen=True)
class Outcome:
    """What became of a job: either stems or an error."""

    job: Job
    separated: Separated | None = None
    error: str | None = None


class Worker:
    """A model, on one device or several, that any number of threads may give jobs to.

    Use it in a with-block; at its end, jobs that are not done are given up.
    """

    def __init__(
        self,
        models: Sequence[Model] | Streaming,  # the same model on each device
        work: Work,
        lanes: int = 1,  # on a processor
        watch: Watch = unwatched,
    ) -> None:
        self.work = work
        self.watch = watch
        self.computing = work.computing
        self._stopped = Event()
        self.model: Model | Streaming
        self.network: SharedNetwork | Streaming
        if isinstance(models, Streaming):
            self.model = self.network = models
            self.lanes, self.on_gpu = models.lanes, False
        else:
            self.model, self.on_gpu = models[0], models[0].device.type != "cpu"
            self.network = self._share(models, lanes)

    def _share(self, models: Sequence[Model], lanes: int) -> SharedNetwork:
        """Have all songs share PyTorch's lanes."""
        from splitter.engines.lanes import make_lanes
        from splitter.engines.sharing import SharedNetwork

        ready = make_lanes(models, self.computing, lanes)
        self.lanes = len(ready)
        network = SharedNetwork(ready)
        self.computing = replace(self.computing, runner=network.run)
        return network

    def separate(self, job: Job) -> Outcome:
        """Separate one song; what is wrong with it becomes an outcome, too."""
        try:
            with open_song(job.song, self.work.reading) as song:
                plan = plan_stems(song, job.stems, self.work.output, job.claimed)
                done = separate_song(song, plan, self.model, self.computing, self.watch)
        except StoppedError:
            raise
        except SplitterError as error:
            return Outcome(job, error=str(error))
        except OSError as error:  # a disk that goes away, say: no fault of the other songs
            return Outcome(job, error=f"{job.song}: {reason(error)}")
        except Exception as error:  # a mistake of ours, say: it must not cost a night's other songs
            log.debug("%s", job.song, exc_info=True)
            return Outcome(job, error=f"{job.song}: {type(error).__name__}: {error}; -v says more")
        return Outcome(job, done)

    def stop(self) -> None:
        """Have jobs under way end early, by a StoppedError."""
        self._stopped.set()
        self.network.stop()

    def pause(self, seconds: float) -> None:
        """Wait for others; raise StoppedError if jobs are to end."""
        if self._stopped.wait(seconds):
            raise StoppedError("stopped")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()
