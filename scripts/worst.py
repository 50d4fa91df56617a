"""List the windows in which a model is worst, and say what kind of error the vocals have.

    python scripts/worst.py DATA --model unet [--include 'ariel_*' …] [--picture worst.png]

DATA is any data set that `splitter evaluate` reads. Windows are seconds in which somebody sings,
in the order of the vocals' SDR less the mixture's. The energy of the error is shared out, in each
bin of the STFT:

    phase    what the best real mask in 0…1 leaves, too
    lost     the rest, where the estimate is weaker than that mask's
    taken    the rest, where it is stronger: music in the vocals
    treble   of all three, what lies above 8 kHz

The last row has the whole data set, and a line what lies in its pauses (seconds in which the voice
is 30 dB below the song). `--picture` draws the mixture, the true and the estimated vocals of each
window.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from librosa import fft_frequencies, stft

from splitter import separate
from splitter.datasets import Tracks, find_songs, select_songs
from splitter.loading import Model, load_model

Energies = npt.NDArray[np.float64]  # (kinds, windows)
KINDS = ("error", "phase", "lost", "taken", "treble", "voice", "music")
WINDOW, HOP = 4096, 1024  # samples
TREBLE = 8000  # Hz
SUNG = 1e-3  # of the song's energy
SHOWN, BEFORE = 3, 20  # seconds of a picture, and of song before it that the model hears


@dataclass(frozen=True)
class Window:
    """A second of a song and the energies in it."""

    song: str
    second: int
    energies: npt.NDArray[np.float64]  # (kinds,)
    sung: bool

    @property
    def gain(self) -> float:
        """Return the SDR of vocals less the mixture's, dB: the music against the error."""
        error, music = self.energies[0], self.energies[KINDS.index("music")]
        return float(10 * np.log10((music + 1e-9) / (error + 1e-9)))

    @property
    def balance(self) -> float:
        """Return the voice's level against the music's in dB."""
        voice, music = self.energies[-2:]
        return float(10 * np.log10((voice + 1e-9) / (music + 1e-9)))


def share_out(tracks: Tracks, estimate: npt.NDArray[np.float32]) -> Energies:
    """Return the energies of each second by kind; the estimate is (channels, samples)."""
    voice, music, heard = (
        stft(signal, n_fft=WINDOW, hop_length=HOP)
        for signal in (tracks.vocals, tracks.instrumental, estimate)
    )
    error = np.abs(heard - voice) ** 2
    mixture = voice + music
    share = np.real(voice * np.conj(mixture)) / np.maximum(np.abs(mixture) ** 2, 1e-18)
    ideal = mixture * np.clip(share, 0, 1)
    phase = np.minimum(np.abs(ideal - voice) ** 2, error)
    weaker = np.abs(heard) < np.abs(ideal)
    above = fft_frequencies(sr=tracks.rate, n_fft=WINDOW)[:, None] > TREBLE
    pictures = (error, phase, (error - phase) * weaker, (error - phase) * ~weaker, error * above,
                np.abs(voice) ** 2, np.abs(music) ** 2)  # fmt: skip
    second = np.arange(error.shape[-1]) * HOP // tracks.rate
    sums = [np.bincount(second, picture.sum((0, 1))) for picture in pictures]
    return np.array(sums)


def judge(model: Model, name: str, tracks: Tracks) -> Iterator[Window]:
    """Yield each second of a song."""
    estimate = separate(tracks.mixture, tracks.rate, model=model)["vocals"]
    energies = share_out(tracks, estimate)
    voice = energies[KINDS.index("voice")]
    floor = SUNG * (voice + energies[KINDS.index("music")]).mean()
    for second, column in enumerate(energies.T):
        yield Window(name, second, column, bool(voice[second] > floor))


def describe(energies: npt.NDArray[np.float64]) -> str:
    """Return the shares of an error's energy as cells of a table, in percent."""
    error = max(energies[0], 1e-12)
    return " | ".join(f"{100 * part / error:.0f}" for part in energies[1:5])


def tell(windows: list[Window], count: int) -> str:
    """Return the table of the worst windows, and of all."""
    sung = sorted((window for window in windows if window.sung), key=lambda window: window.gain)
    lines = ["| song | s | voice to music, dB | gain, dB | phase % | lost % | taken % | treble % |",
             "|---|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    whole = np.sum([window.energies for window in windows], 0)
    for one in [*sung[:count], Window("all", len(windows), whole, True)]:
        cells = (one.song, str(one.second), f"{one.balance:.1f}", f"{one.gain:.1f}")
        lines.append(f"| {' | '.join(cells)} | {describe(one.energies)} |")
    paused = sum(window.energies[0] for window in windows if not window.sung)
    lines.append(f"\nIn pauses: {100 * paused / max(whole[0], 1e-12):.0f} % of the error.")
    return "\n".join(lines)


def draw(model: Model, shown: list[tuple[Window, Tracks]], path: Path) -> None:
    """Draw three seconds around each window: the mixture, the true and the estimated vocals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(shown), 3, figsize=(15, 2.2 * len(shown)), squeeze=False, layout="constrained"
    )
    for row, (window, tracks) in zip(axes, shown, strict=True):
        begin = max(window.second - BEFORE, 0) * tracks.rate
        around = slice(begin, begin + 2 * BEFORE * tracks.rate)
        mixture, vocals = tracks.mixture[:, around], tracks.vocals[:, around]
        estimate = separate(mixture, tracks.rate, model=model)["vocals"]
        first = max(window.second - 1, 0) * tracks.rate - begin
        part = slice(first, first + SHOWN * tracks.rate)
        for axis, signal in zip(row, (mixture, vocals, estimate), strict=True):
            picture = np.abs(stft(signal[:, part].mean(0), n_fft=2048, hop_length=256))
            level = 20 * np.log10(np.maximum(picture, 1e-5))
            axis.imshow(level[:512], origin="lower", aspect="auto", vmin=-60, vmax=40)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{window.song[:14]} {window.second} s", fontsize=7)
    figure.savefig(path, dpi=60)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--include", action="append", default=[])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    model = load_model(asked.model)
    chosen = select_songs(find_songs(asked.data), None, asked.include)
    songs = {song.label: song for song in chosen}
    windows = [one for name, song in songs.items() for one in judge(model, name, song.load())]
    print(tell(windows, asked.count))
    if asked.picture:
        worst = sorted((one for one in windows if one.sung), key=lambda one: one.gain)
        shown = [(one, songs[one.song].load()) for one in worst[: asked.count]]
        if not shown:
            raise SystemExit(f"{asked.data}: nobody sings there, so there is no window to draw")
        draw(model, shown, asked.picture)


if __name__ == "__main__":
    main()
