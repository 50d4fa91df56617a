"""Make up voices: a small autoregressive prior draws codes, and what decodes them sounds.

    python scripts/draw_vocals.py DATA -o drawn --steps 2000 --seconds 4

After VQ-VAE-2 (Razavi et al. 2019): first the parts of `vq-unet` learn to repeat spectrograms of
the voices alone in DATA; then a recurrent network learns which code follows which, first the coarse
ones of a column, then the fine ones. Codes drawn from it are decoded, and get phases by the rounds
of Griffin and Lim (1984). OUTPUT gets vocals.wav and vocals.png, and a voice of DATA by way of its
own codes (repeated.wav, repeated.png): what is drawn sounds no better. What was trained is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitter.loading import read_tensors, write_tensors
from splitter.networks import Bands
from splitter.networks.contract import find_auxiliaries
from splitter.networks.picture import Parts, PictureUNet
from splitter.networks.quantising import Codebook
from splitter.networks.skips import Quantised
from splitter.plots import import_imsave
from splitter.spectral import Stft
from splitter.training.mixing import fit_channels
from splitter.training.sources import Source, find_sources, load_sources

RATE = 16000  # Hz
STFT = (1024, 256)  # samples, window and hop
LAYOUT = ((128, 1), (64, 2), (64, 4))  # (bands, bins a band)
LOUD = 4.0  # log1p(LOUD · |X|)
LEVEL = 0.1  # RMS of what is heard
RATE_OF_LEARNING = 2e-3
ROUNDS = 60  # of Griffin and Lim


class Repeater(nn.Module):
    """Press pictures of voices through codes at two levels."""

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        parts = Parts(
            block="residual", down="in-block", skip="quantised", bottom="quantised",
            levels=1, pack=4, width=width, codes=codes,
        )  # fmt: skip
        self.stft = Stft(*STFT)
        self.bands = Bands(LAYOUT, self.stft.bins)
        self.unet = PictureUNet(parts, 1, 1, self.bands.bands)
        self.rows = self.bands.bands // self.unet.rows  # of coarse codes

    def draw(self, signal: Tensor) -> Tensor:
        """Map (batch, samples) to pictures (batch, 1, bands, frames), whole columns of codes."""
        magnitude = self.stft(signal[:, None]).abs()
        picture = torch.log1p(LOUD * self.bands.fold(magnitude))
        return picture[..., : picture.shape[-1] // self.unet.stride * self.unet.stride]

    def encode(self, picture: Tensor) -> Tensor:
        """Return the codes (batch, columns, coarse and fine ones of a column)."""
        unet = self.unet
        seen = unet.before[0](unet.enter(picture))
        coarse = self._book().encode(unet.deepest(unet.down[0](seen)))
        risen = unet.up[0](self._book().decode(coarse))
        skip = self._skip()
        fine = skip.codebook.encode(skip.ask(seen, risen))
        fine = fine.unflatten(-1, (-1, 2)).permute(0, 2, 3, 1).flatten(2)  # columns of two frames
        return torch.cat([coarse.transpose(1, 2), fine], dim=2)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the picture of codes."""
        coarse = codes[..., : self.rows].transpose(1, 2)
        fine = codes[..., self.rows :].unflatten(-1, (2, -1)).permute(0, 3, 1, 2).flatten(2)
        risen = self.unet.up[0](self._book().decode(coarse))
        picture: Tensor = self.unet.leave(self.unet.after[0](self._skip().decode(fine, risen)))
        return picture

    def sound(self, picture: Tensor) -> Tensor:
        """Give a picture phases that go together; return (batch, samples)."""
        magnitude = self.bands.spread(picture.clamp(0, 8).expm1() / LOUD)
        samples = magnitude.shape[-1] * self.stft.hop
        spectrogram = torch.polar(magnitude, torch.rand_like(magnitude) * 2 * torch.pi)
        for _ in range(ROUNDS):
            angle = self.stft(self.stft.inverse(spectrogram, samples)).angle()
            spectrogram = torch.polar(magnitude, angle)
        return self.stft.inverse(spectrogram, samples)[:, 0]

    def _book(self) -> Codebook:
        bottom = self.unet.bottom
        assert isinstance(bottom, Codebook)
        return bottom

    def _skip(self) -> Quantised:
        (skip,) = self.unet.skips
        assert isinstance(skip, Quantised)
        return skip


class Prior(nn.Module):
    """Guess each code from those before it, the one a column before, and its place in a column."""

    def __init__(self, codes: int, rows: int, width: int) -> None:
        super().__init__()
        self.codes, self.column = codes, 5 * rows  # one coarse row, and two by two fine ones
        self.fine = torch.arange(self.column) >= rows
        self.embed = nn.Embedding(2 * codes + 1, width)  # coarse, fine, and none
        self.place = nn.Embedding(self.column, width)
        self.memory = nn.GRU(2 * width, 2 * width, batch_first=True)
        self.guess = nn.Linear(2 * width, 2 * codes)

    def label(self, codes: Tensor) -> Tensor:
        """Give fine codes other numbers, and lay all columns behind each other."""
        return (codes + self.fine * self.codes).flatten(1)

    def forward(
        self, before: Tensor, above: Tensor, places: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return logits for the codes at (length,) places, and the memory's state."""
        told = torch.cat([self.embed(before) + self.place(places), self.embed(above)], dim=-1)
        answer, state = self.memory(told, state)
        logits = self.guess(answer).unflatten(-1, (2, -1))
        chosen = torch.where(self.fine[places][:, None], logits[..., 1, :], logits[..., 0, :])
        return chosen, state

    def lose(self, codes: Tensor) -> Tensor:
        """Return the mean surprise at (batch, columns, column) codes, nats."""
        labels = self.label(codes)
        none = torch.full_like(labels[:, :1], 2 * self.codes)
        before = torch.cat([none, labels[:, :-1]], dim=1)
        above = torch.cat([none.expand(-1, self.column), labels[:, : -self.column]], dim=1)
        places = torch.arange(labels.shape[1]) % self.column
        logits, _ = self(before, above, places, None)
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    def draw(self, columns: int) -> Tensor:
        """Draw codes (1, columns, column), one after the other."""
        none, state = 2 * self.codes, None
        drawn: list[int] = []
        labels = [none]
        for index in range(columns * self.column):
            place = index % self.column
            above = labels[index + 1 - self.column] if index >= self.column else none
            given = (torch.tensor([[one]]) for one in (labels[-1], above))
            logits, state = self(*given, torch.tensor([place]), state)
            drawn.append(int(torch.multinomial(logits[0, 0].softmax(-1), 1)))
            labels.append(drawn[-1] + int(self.fine[place]) * self.codes)
        return torch.tensor(drawn).view(1, columns, self.column)


class Voices:
    """Crops of the voices alone, all equally loud."""

    def __init__(self, sources: list[Source], samples: int) -> None:
        found = [source.vocals for source in sources if source.vocals and not source.instrumental]
        self.recordings = [one for one in found if one.length > 0]
        if not self.recordings:
            raise SystemExit("no voices alone: put some into a folder called vocals")
        self.samples = samples
        lengths = torch.tensor([float(one.length) for one in self.recordings])
        self.odds = lengths / lengths.sum()

    def draw(self, count: int) -> Tensor:
        """Draw (count, samples)."""
        return torch.stack([self._crop(int(i)) for i in self.odds.multinomial(count, True)])

    def _crop(self, index: int) -> Tensor:
        recording = self.recordings[index]
        start = int(torch.randint(max(1, recording.length - self.samples + 1), ()))
        crop = fit_channels(recording.samples[:, start : start + self.samples], 1)[0]
        signal = torch.from_numpy(np.pad(crop, (0, self.samples - len(crop))))
        return signal * (LEVEL / signal.square().mean().sqrt().clamp_min(1e-4))


def train(module: nn.Module, path: Path, steps: int, lose: Callable[[], Tensor]) -> None:
    """Learn for so many steps, or load what was learned."""
    if path.exists():
        module.load_state_dict(read_tensors(path))
        module.eval()
        return
    optimizer = torch.optim.Adam(module.parameters(), RATE_OF_LEARNING)
    module.train()
    for step in range(steps):
        loss = lose()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            told = [
                f"{k} {v:.0f}" for a in find_auxiliaries(module) for k, v in a.measure().items()
            ]
            print(
                f"{path.stem}: step {step + 1} of {steps}, loss {float(loss.detach()):.4g}", *told
            )
    write_tensors(path, {name: tensor.contiguous() for name, tensor in module.state_dict().items()})
    module.eval()


def write(repeater: Repeater, picture: Tensor, folder: Path, name: str) -> None:
    """Write a picture, and its sound."""
    signal = repeater.sound(picture)[0].numpy()
    soundfile.write(folder / f"{name}.wav", signal * (0.5 / max(abs(signal).max(), 1e-6)), RATE)
    import_imsave()(folder / f"{name}.png", picture[0, 0].flip(0).numpy(), cmap="magma")


def main() -> None:
    """Train both networks, draw, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("drawn"))
    parser.add_argument("--cache", type=Path, help="decoded sound [OUTPUT/cache]")
    parser.add_argument("--steps", type=int, default=2000, help="of each of the two trainings")
    parser.add_argument("--seconds", type=float, default=4.0, help="of sound to draw")
    parser.add_argument("--width", type=int, default=64, help="features")
    parser.add_argument("--codes", type=int, default=256, help="of each level")
    parser.add_argument("--batch", type=int, default=8, help="crops a step")
    parser.add_argument("--crop", type=int, default=32768, help="samples")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    asked.output.mkdir(parents=True, exist_ok=True)
    cache = asked.cache or asked.output / "cache"
    found = [files for files in find_sources(asked.data) if files.vocals and not files.instrumental]
    voices = Voices(list(load_sources(found, cache, RATE)), asked.crop)
    repeater = Repeater(asked.width, asked.codes)

    def repeat() -> Tensor:
        picture = repeater.draw(voices.draw(asked.batch))
        wrong = F.mse_loss(repeater.unet(picture), picture)
        return wrong + sum(a.loss for a in find_auxiliaries(repeater) if a.loss is not None)

    train(repeater, asked.output / "repeater.safetensors", asked.steps, repeat)
    prior = Prior(asked.codes, repeater.rows, asked.width)

    def guess() -> Tensor:
        with torch.no_grad():
            codes = repeater.encode(repeater.draw(voices.draw(asked.batch)))
        return prior.lose(codes)

    train(prior, asked.output / "prior.safetensors", asked.steps, guess)
    torch.manual_seed(asked.seed)  # the same also if nothing was left to train
    with torch.inference_mode():
        picture = repeater.draw(voices.draw(1))
        write(repeater, repeater.decode(repeater.encode(picture)), asked.output, "repeated")
        columns = max(1, round(asked.seconds * RATE / STFT[1] / repeater.unet.stride))
        write(repeater, repeater.decode(prior.draw(columns)), asked.output, "vocals")


if __name__ == "__main__":
    main()
