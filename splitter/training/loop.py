"""The training itself: batches in, a model folder out, and a checkpoint that survives.

A run lives in one folder:

    recipe.json              how the model is trained
    checkpoint.safetensors   step, weights, averaged weights, optimizer: all that a resume needs
    log.csv                  step, loss, learning rate, × real time, what parts tell (perplexity)
    validation.csv           step, hours of sound, SDR on held-out songs, its gain over the mixture
    best.safetensors         the averaged weights that scored best so far, and their score
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from splitter.audio import Block
from splitter.errors import DataError, ModelError, SplitterError
from splitter.loading import (
    build_network,
    check_memory,
    fill_network,
    read_tensors,
    save_model,
    sketch_network,
    write_tensors,
)
from splitter.networks import ARCHITECTURES, Average, MaskModel, Network
from splitter.networks.contract import find_auxiliaries, move_network
from splitter.registry import Config
from splitter.spectral import Stft
from splitter.training.augmentation import Array, place
from splitter.training.batches import Batch, batches, is_finite
from splitter.training.critics import Critics, Loose
from splitter.training.losses import LOSSES, Estimate, heard_bins
from splitter.training.mixing import Mixer, stay
from splitter.training.optimizers import OPTIMIZERS
from splitter.training.ranks import Ranks
from splitter.training.recipe import RECIPE, Recipe, check_begun
from splitter.training.sources import Pools
from splitter.training.tables import Progress, forget_after, write_progress
from splitter.training.validation import Validation

Part = TypeVar("Part")

CHECKPOINT_SECONDS = 120.0
LOG_EVERY = 20  # steps
WINDOW_AND_HOP = (4096, 1024)  # samples, of the loss of networks that have no spectrogram
ADDED = "unet.added"  # weights of blocks that begin with nothing
# sizes in which a network may differ from the one that it starts from
FREE_SIZES = {"blocks", "blocks_up", "dropout", "level_span"}
CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
HOPELESS = 50  # steps one after the other without a loss that is a number


class Trainer:
    """A network under training, with everything that a checkpoint holds."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks = Ranks(),
        told: Path | None = None,  # whence the recipe is; what is wrong with it is told of that
    ) -> None:
        self.told = told or run / RECIPE
        if recipe.batch % ranks.count:
            what = f"a batch of {recipe.batch} examples into {ranks.count} equal parts"
            raise DataError(f'cannot split {what}; change the recipe\'s "batch"')
        self.recipe = recipe
        self.ranks = ranks
        self.run = run
        self.device = device
        self.dtype = dtype
        self.config = Config(recipe.network, recipe.sizes, recipe.rate, recipe.channels)
        self.loss = self._choose("loss", LOSSES)
        make_optimizers = self._choose("optimizer", OPTIMIZERS)
        check_memory(sketch_network(self.config, self.told), self.told)
        torch.manual_seed(recipe.seed)
        self.network = self._build()
        sizes = asdict(ARCHITECTURES[recipe.network](**recipe.sizes))  # also those by default
        self.config = replace(self.config, sizes=sizes)
        own = self.network.stft if isinstance(self.network, MaskModel) else None
        self.stft = own or Stft(*WINDOW_AND_HOP).to(device)  # in which the loss is measured
        self.average = self._build()
        self.average.load_state_dict(self.network.state_dict())
        self.optimizers = make_optimizers(self.network, recipe.learning_rate, recipe.weight_decay)
        self.critics: Critics | None = None
        if recipe.adversarial.weight:
            # vocals, and what is left
            self.critics = Critics(recipe.channels, 2, recipe.adversarial).to(device)
        self.step = 0
        self.best = -math.inf
        self.losses: list[float] = []  # of the steps that no row of the log has
        self.lost = 0  # steps in one go that changed nothing

    def _choose(self, part: str, known: Mapping[str, Part]) -> Part:
        """Return what the recipe names as its `part`."""
        name = getattr(self.recipe, part)
        if name not in known:
            names = ", ".join(known)
            raise DataError(f"{self.told}: unknown {part} {name!r}; choose from {names}")
        return known[name]

    def _build(self) -> Network:
        network = build_network(self.config, self.told)
        move_network(network, self.device)
        return network

    def train(
        self, batches: Iterator[Batch], validate: Callable[[Network], tuple[float, float] | None]
    ) -> Iterator[Progress]:
        """Take a step a batch; checkpoint as it goes; yield progress every few steps."""
        if self.ranks.first:
            forget_after(self.run, self.step)
        taken = 0  # steps, since the last row
        started = saved = time.monotonic()
        for batch in batches:
            self.losses.append(self.take_step(batch))
            taken += 1
            self.lost = 0 if math.isfinite(self.losses[-1]) else self.lost + 1
            if self.lost == HOPELESS:
                told = f"{self.run}: the loss of the last {HOPELESS} steps is no number"
                raise SplitterError(f'{told}; try a lower "learning_rate" in a new --run')
            self.step += 1
            due = self.step % self.recipe.validate_every == 0 or self.step == self.recipe.steps
            if not due and self.step % LOG_EVERY:
                continue
            if not self.ranks.first:  # it alone tells and writes
                self.losses.clear()
                continue
            audio = taken * self.recipe.batch * batch.mixture.shape[-1]
            speed = audio / self.recipe.rate / (time.monotonic() - started)
            sdr, improvement = (due and validate(self.average.eval())) or (None, None)
            if improvement is not None and improvement > self.best:
                self._keep(improvement)
            known = [loss for loss in self.losses if math.isfinite(loss)]
            mean = float(np.mean(known)) if known else math.nan
            progress = Progress(self.step, mean, speed, sdr, improvement)
            self._record(progress)
            yield progress
            self.losses.clear()
            taken, started = 0, time.monotonic()
            if due or started - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = started

    def take_step(self, batch: Batch) -> float:
        """Change the weights by one batch; one that is no number changes nothing."""
        # the norms' statistics would never recover from what is no number
        if not self.ranks.agree(is_finite(batch).to(self.device)):
            return math.nan
        # dropout: the same after a resume, another one on each rank
        torch.manual_seed(self.recipe.seed + self.step + self.recipe.steps * self.ranks.number)
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        loss = self._loss(batch)
        if batch.loose and self.critics:
            loss = loss + self._criticise(batch.loose, self.critics)
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average(self.network)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.gradient_norm)
        if not torch.isfinite(norm):  # nor is the loss a number then, on one rank or another
            for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return math.nan
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.recipe)
            optimizer.step()
        self._follow()
        return self.ranks.mean(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        self.network.train()
        with torch.no_grad():
            signal = batch.mixture.to(self.device)
            mixture, vocals = self.stft(signal), self.stft(batch.vocals.to(self.device))
            heard = heard_bins(batch.bandwidth.to(self.device), mixture.shape[-2], self.recipe.rate)
        guess = self._estimate(signal, mixture)
        loss = self.loss(Estimate(guess, mixture, vocals, heard, self.stft))
        return loss + self._take_auxiliary()

    def _take_auxiliary(self) -> Tensor:
        """Return the losses that parts of the network made in its last forward pass."""
        total = torch.zeros((), device=self.device)
        for part in find_auxiliaries(self.network):
            if part.loss is not None:
                total = total + part.loss
                part.loss = None  # nor what it was computed from
        return total

    def _estimate(self, signal: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the vocals' spectrogram of a signal, which is given as a spectrogram, too."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if isinstance(self.network, MaskModel):  # no way to samples and back is needed
                guess = self.network.mask(spectrogram)[:, 0].float() * spectrogram  # the stem
            else:
                guess = self.stft(self.network(signal)[:, 0].float())  # the stem
        return guess

    def _criticise(self, loose: Loose, critics: Critics) -> Tensor:
        """Train the critics on a batch; return what they find wrong with the network's stems."""
        with torch.no_grad():
            signal = loose.mixture.to(self.device)
            song, *stems = (self.stft(each.to(self.device)) for each in (signal, *loose.stems))
            heard = heard_bins(loose.bandwidth.to(self.device), song.shape[-2], self.recipe.rate)
        vocals = self._estimate(signal, song)
        estimates = [each.abs() * heard for each in (vocals, song - vocals)]
        truths = [each.abs() * heard for each in stems]
        return critics.judge(estimates, truths, self.ranks.average) + self._take_auxiliary()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights towards the network's (an exponential moving average)."""
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        average = self.average.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)

    def _record(self, progress: Progress) -> None:
        rate = learning_rate(progress.step - 1, self.recipe)
        heard = progress.step * self.recipe.batch * self.recipe.crop / self.recipe.rate / 3600
        write_progress(self.run, progress, rate, heard, dict(self._measure_parts()))

    def _measure_parts(self) -> Iterator[tuple[str, float]]:
        """Yield what parts with a loss of their own have to say, numbered from the deepest."""
        for number, part in enumerate(find_auxiliaries(self.network), 1):
            yield from ((f"{name}_{number}", value) for name, value in part.measure().items())

    def _keep(self, improvement: float) -> None:
        """Write the averaged weights as the best so far."""
        self.best = improvement
        tensors = {**self.average.state_dict(), "improvement": torch.tensor(improvement)}
        write_tensors(self.run / BEST, tensors)

    @property
    def _all_optimizers(self) -> list[torch.optim.Optimizer]:
        return [*self.optimizers, *([self.critics.optimizer] if self.critics else [])]

    def save(self) -> None:
        """Write the checkpoint: tensors first, then the step that makes them valid."""
        tensors: dict[str, Tensor] = {
            "step": torch.tensor(self.step),
            "lost": torch.tensor(self.lost),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
        }
        tensors |= {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        if self.critics:
            tensors |= {f"critics.{name}": t for name, t in self.critics.state_dict().items()}
        for number, optimizer in enumerate(self._all_optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                prefix = f"optimizer.{number}.{index}"
                tensors |= {f"{prefix}.{key}": value for key, value in state.items()}
        write_tensors(self.run / CHECKPOINT, tensors)

    def load(self) -> bool:
        """Go on from the run's checkpoint; tell whether there was one.

        Raises DataError for a checkpoint of another recipe.
        """
        path = self.run / CHECKPOINT
        if not path.exists():
            if self.ranks.first:  # what an earlier run left is not this one's best
                (self.run / BEST).unlink(missing_ok=True)
            return False
        if self.ranks.first and (self.run / RECIPE).exists():
            check_begun(self.recipe, self.run / RECIPE)
        if (self.run / BEST).exists():
            best = read_tensors(self.run / BEST)
            self.best = float(best.get("improvement", -math.inf))
        tensors = read_tensors(path)
        if "step" not in tensors:
            raise DataError(f"{path}: is no checkpoint of splitter; give another --run")
        self.step = int(tensors["step"])
        if "losses" in tensors:  # checkpoints of before lack them
            self.lost, self.losses = int(tensors["lost"]), tensors["losses"].tolist()
        fill_network(self.network, _below(tensors, "network."), path)
        fill_network(self.average, _below(tensors, "average."), path)
        if self.critics:
            self.critics.load_state_dict(_below(tensors, "critics."))
        for number, optimizer in enumerate(self._all_optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _below(tensors, f"optimizer.{number}.").items():
                index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return True

    def start_from(self, network: nn.Module, config: Config, name: Path) -> None:
        """Take over the weights of a trained network; it may lack blocks that are added to it.

        Raises ModelError for one that hears or sees something else, or has other tensors.
        """
        if isinstance(network, Average):
            way_out = "start from one of these"
            raise ModelError(f"{name}: an average of models has no weights of its own; {way_out}")
        mine, other = _describe(self.config), _describe(config)
        for key in mine:
            if mine[key] != other.get(key):
                what = f"its {key} is {other.get(key)}, not {mine[key]} as in the recipe"
                raise ModelError(f"{name}: training cannot start from it, because {what}")
        for own in (self.network, self.average):
            added = {key: t for key, t in own.state_dict().items() if key.startswith(ADDED)}
            fill_network(own, {**added, **network.state_dict()}, name)

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a model folder: the best ones, if the recipe says so."""
        chosen = self.average
        if self.recipe.keep_best and (self.run / BEST).exists():
            chosen = self._build()
            tensors = read_tensors(self.run / BEST)
            del tensors["improvement"]
            chosen.load_state_dict(tensors)
        save_model(folder, self.config, chosen)


def train_on(
    pools: Pools, trainer: Trainer, stop_at: int | None = None, workers: int = 1
) -> Generator[Progress]:
    """Train from where `trainer` is to the step `stop_at`, or to its recipe's last; checkpoint."""
    recipe = trainer.recipe
    until = min(stop_at or recipe.steps, recipe.steps)
    if recipe.adversarial.weight and not pools.mixtures:
        what = "adversarial training needs songs without stems, in a folder called mixtures"
        raise DataError(f"{trainer.run}: {what}")
    mixer = Mixer(pools, recipe, _mover(trainer.device))
    made = batches(mixer, recipe, trainer.step, until, workers, trainer.ranks)
    with closing(made) as examples:
        yield from trainer.train(examples, Validation(pools, recipe, trainer.device))
    if trainer.ranks.first:
        trainer.save()


def _mover(device: torch.device) -> Callable[[Block], Array]:
    """Say how sound gets to where it is changed: to the GPU that trains, if it is CUDA's."""
    if device.type != "cuda":
        return stay
    return lambda block: place(block, device)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of a step: a linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    done = min(1.0, step / recipe.steps)
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))


def _describe(config: Config) -> dict[str, str]:
    """Say what two networks must have in common if one is to begin with the other's weights."""
    sizes = asdict(ARCHITECTURES[config.network](**config.sizes))
    shared = {key: value for key, value in sizes.items() if key not in FREE_SIZES}
    named = {"network": config.network, "rate": config.rate, "channels": config.channels}
    return {key: json.dumps(value) for key, value in {**named, **shared}.items()}


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
