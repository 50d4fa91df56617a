"""Compose music without voices and let FluidSynth play it, to a folder that `splitter train` reads.

pip install pretty_midi                           # and FluidSynth with a General MIDI SoundFont:
apt-get install fluidsynth fluid-soundfont-gm     # or as your system does that
python scripts/compose.py FOLDER --minutes 120

Half of the pieces are bands, half are one or two instruments alone that play what a voice might
sing: phrases with breaths between them, slides and vibrato. A network that never heard an electric
guitar or a saxophone do so takes them for a voice. With --choirs the chords, the melody or both are
those of a sampled choir in all pieces, which go to a folder of their own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from pretty_midi import ControlChange, Instrument, Note, PitchBend, PrettyMIDI

from splitter.cli.progress import watch_items
from splitter.cli.screen import Screen

RATE = 44100  # Hz
SECONDS = 30.0  # a piece
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))  # semitones
# General MIDI programs, from 0; noises (120 on) are left out
GUITARS = (26, 27, 28, 29, 29, 29, 30, 30, 30, 31)
SINGING = (16, 18, 21, 22, 40, 41, 42, 56, 57, 59, 60, 64, 65, 66, 67, 68, 71, 73, 75, 80, 81, 84)
CHORDS = (0, 1, 2, 4, 5, 7, 16, 17, 18, 24, 25, 26, 27, 29, 30, 48, 49, 50, 61, 62, 81, 88, 90, 94)
CHOIRS = (
    52,
    53,
    54,
    85,
    91,
)  # "aah" and "ooh" that keys play: instruments, though voices are in them
BASSES = (32, 33, 34, 35, 36, 37, 38, 39)
KICK, SNARES, CLOSED_HAT, OPEN_HAT, RIDE, CRASH = 36, (38, 40, 39), 42, 46, 51, 49  # drum keys
PAN, EXPRESSION, VOLUME, REVERB = 10, 11, 7, 91  # controllers
BEND = 2.0  # semitones that the widest bend reaches
CONTROL = 0.02  # seconds between bends


@dataclass(frozen=True)
class Tune:
    """What all parts of a piece have in common."""

    root: int  # semitones above a C
    scale: tuple[int, ...]  # semitones
    degrees: list[int]  # of the scale, one a bar: where its chord begins
    beat: float  # seconds, four to a bar

    def pitch(self, step: int) -> int:
        """Return the semitones of a step of the scale, in any octave."""
        return 12 * (step // len(self.scale)) + self.scale[step % len(self.scale)]


def compose(seconds: float, random: np.random.Generator, choirs: bool = False) -> PrettyMIDI:
    """Write a piece: a band, or melodies alone; with `choirs` a sampled choir is in it."""
    beat = 60 / random.uniform(65, 165)
    root = int(random.integers(0, 12))
    scale = SCALES[random.integers(len(SCALES))]
    bars = int(np.ceil(seconds / (4 * beat)))
    cycle = random.choice([0, 0, 2, 3, 3, 4, 4, 5], random.choice([2, 4, 4, 8]))
    degrees = [int(cycle[bar % len(cycle)]) for bar in range(bars)]
    tune = Tune(root, scale, degrees, beat)
    piece = PrettyMIDI(initial_tempo=60 / beat)
    is_band = random.random() < 0.5
    if is_band:
        parts = [_play_chords(tune, random)]
        if random.random() < 0.4:
            parts.append(_play_chords(tune, random))
        if random.random() < 0.85:
            parts.append(_play_bass(tune, random))
        if random.random() < 0.8:
            parts.append(_play_drums(bars, beat, random))
        leads = int(random.random() < 0.7)
    else:
        parts, leads = [], int(random.choice([1, 1, 2]))
    parts += [_play_lead(tune, random) for _ in range(leads)]
    if choirs:
        for part in random.choice(["lead", "chords"], random.integers(1, 3), replace=False):
            play = _play_lead if part == "lead" else _play_chords
            parts.append(play(tune, random, CHOIRS))
    piece.instruments.extend(parts)
    return piece


def _play_lead(
    tune: Tune, random: np.random.Generator, programs: tuple[int, ...] = ()
) -> Instrument:
    """Play a melody with breaths, slides and vibrato; on `programs`, or any that can sing."""
    programs = programs or (GUITARS if random.random() < 0.5 else SINGING)
    program = int(random.choice(programs))
    part = _take(program, random, volume=(90, 127))
    low = tune.root + int(random.choice([48, 60, 60, 60, 72]))
    step, time = int(random.integers(0, 8)), random.uniform(0, 2)
    end = 4 * tune.beat * len(tune.degrees)
    vibrato, speed = random.choice([0, 0.15, 0.3, 0.6]), random.uniform(4.5, 7)
    grid = tune.beat * random.choice([0.25, 0.5, 0.5, 1.0])
    double = random.random() < 0.15  # two strings at once
    while time < end:
        for _ in range(random.integers(3, 12)):
            length = grid * random.choice([1, 1, 1, 2, 2, 3, 4])
            if random.random() < 0.15:
                length *= 3
            step = int(np.clip(step + random.integers(-3, 4), -3, 13))
            pitch = low + tune.pitch(step)
            sounding = length * random.choice([0.6, 0.95, 1.02])
            strength = int(random.integers(70, 127))
            part.notes.append(Note(strength, pitch, time, time + sounding))
            if double:
                part.notes.append(Note(strength, pitch + 5, time, time + sounding))
            slide = random.choice([0, 0, 0, -2, -1, 1]) * random.random()
            part.pitch_bends.extend(_bend(time, length, slide, vibrato, speed))
            if random.random() < 0.3:  # swell
                part.control_changes.extend(_swell(time, length, random))
            time += length
        time += random.choice([0.5, 1, 2, 4]) * tune.beat
    return part


def _bend(
    start: float, length: float, slide: float, vibrato: float, speed: float
) -> Iterator[PitchBend]:
    """Slide into a note from `slide` semitones off, and tremble by `vibrato` later on."""
    for time in np.arange(0, length, CONTROL):
        depth = vibrato * np.clip((time - 0.2) / 0.3, 0, 1)
        semitones = slide * np.exp(-time / 0.06) + depth * np.sin(2 * np.pi * speed * time)
        yield PitchBend(int(np.clip(semitones / BEND, -1, 1) * 8191), start + time)


def _swell(start: float, length: float, random: np.random.Generator) -> Iterator[ControlChange]:
    first, last = random.integers(50, 128, 2)
    for part in np.linspace(0, 1, 8):
        loudness = int(first + (last - first) * part)
        yield ControlChange(EXPRESSION, loudness, start + part * length)


def _play_chords(
    tune: Tune, random: np.random.Generator, programs: tuple[int, ...] = CHORDS
) -> Instrument:
    """Hold, strum or break chords; guitars with distortion play fifths."""
    program = int(random.choice(programs))
    part = _take(program, random, volume=(50, 115))
    tones = (0, 4, 7) if program in (29, 30) else (0, 2, 4, 7)[: random.integers(3, 5)]
    low = tune.root + int(random.choice([36, 48] if program in (29, 30) else [48, 48, 60]))
    rhythm = tune.beat * random.choice([0.25, 0.5, 0.5, 1, 2, 4])
    broken, hits = random.random() < 0.35, random.random(16) < random.uniform(0.5, 1)
    hits[0] = True
    for bar, degree in enumerate(tune.degrees):
        chord = [low + tune.pitch(degree + tone) for tone in tones]
        for index, time in enumerate(np.arange(0, 4 * tune.beat - 1e-6, rhythm)):
            if not hits[index % 16]:
                continue
            start, strength = 4 * tune.beat * bar + time, int(random.integers(55, 120))
            length = rhythm * random.choice([0.4, 0.95, 1.0])
            for number, pitch in enumerate([chord[index % len(chord)]] if broken else chord):
                strum = 0.012 * number
                part.notes.append(Note(strength, pitch, start + strum, start + length + strum))
    return part


def _play_bass(tune: Tune, random: np.random.Generator) -> Instrument:
    """Play roots, now and then fifths and octaves."""
    part = _take(int(random.choice(BASSES)), random, volume=(70, 120))
    rhythm = tune.beat * random.choice([0.25, 0.5, 0.5, 1, 2])
    for bar, degree in enumerate(tune.degrees):
        for time in np.arange(0, 4 * tune.beat - 1e-6, rhythm):
            if random.random() < 0.85:
                step = degree + int(random.choice([0, 0, 0, 4, 7]))
                pitch = 28 + (tune.root + 8) % 12 + tune.pitch(step)
                start = 4 * tune.beat * bar + time
                part.notes.append(
                    Note(int(random.integers(70, 120)), pitch, start, start + 0.9 * rhythm)
                )
    return part


def _play_drums(bars: int, beat: float, random: np.random.Generator) -> Instrument:
    """Beat a pattern of sixteenths that stays, with a cymbal now and then and a fill."""
    part = Instrument(int(random.choice([0, 8, 16, 24, 25, 40])), is_drum=True)
    part.control_changes.append(ControlChange(VOLUME, int(random.integers(80, 124)), 0))
    snare, cymbal = int(random.choice(SNARES)), int(random.choice([CLOSED_HAT, CLOSED_HAT, RIDE]))
    kicks = random.random(16) < np.tile([0.9, 0.1, 0.3, 0.15], 4)
    snares = random.random(16) < np.tile([0.02, 0.03, 0.03, 0.03, 0.95, 0.05, 0.1, 0.1], 2)
    every = int(random.choice([1, 2, 2, 4]))
    for bar in range(bars):
        is_fill = bar % 4 == 3 and random.random() < 0.5
        for sixteenth in range(16):
            start = beat * (4 * bar + sixteenth / 4)
            keys = [KICK] * bool(kicks[sixteenth]) + [snare] * bool(snares[sixteenth])
            if is_fill and sixteenth >= 12:
                keys = [int(random.choice([38, 41, 43, 45, 47]))]
            elif sixteenth % every == 0:
                keys.append(OPEN_HAT if random.random() < 0.06 else cymbal)
            if sixteenth == 0 and bar % 4 == 0 and random.random() < 0.6:
                keys.append(CRASH)
            for key in keys:
                part.notes.append(Note(int(random.integers(60, 127)), key, start, start + 0.1))
    return part


def _take(program: int, random: np.random.Generator, volume: tuple[int, int]) -> Instrument:
    """Take an instrument, at a place on the stage."""
    part = Instrument(program)
    place = int(np.clip(random.normal(64, 25), 0, 127))
    for control, value in ((PAN, place), (VOLUME, random.integers(*volume)), (REVERB, 0)):
        value = int(random.integers(0, 100)) if control == REVERB else int(value)
        part.control_changes.append(ControlChange(control, value, 0))
    return part


def play(piece: PrettyMIDI, seconds: float, soundfont: Path, path: Path) -> None:
    """Let FluidSynth play a piece to a FLAC file."""
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder) / "score.mid", Path(folder) / "sound.wav"
        piece.write(str(score))
        command = ["fluidsynth", "-niq", "-r", str(RATE), "-g", "0.4", "-F", str(sound)]
        subprocess.run([*command, str(soundfont), str(score)], check=True, capture_output=True)
        signal, _ = soundfile.read(sound, stop=round(seconds * RATE), dtype="float32")
    peak = max(float(np.abs(signal).max()), 1e-9)
    soundfile.write(path, signal * (0.7 / peak), RATE)


def main() -> None:
    """Write as many pieces as the minutes hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choirs", action="store_true", help="a sampled choir in every piece")
    arguments = parser.parse_args()
    if not shutil.which("fluidsynth"):
        parser.error("there is no fluidsynth; install it (apt-get install fluidsynth)")
    if not arguments.soundfont.is_file():
        parser.error(f"{arguments.soundfont}: no such SoundFont; say where one is by --soundfont")
    folder = arguments.folder / "instrumental" / ("choirs" if arguments.choirs else "composed")
    folder.mkdir(parents=True, exist_ok=True)
    count = round(arguments.minutes * 60 / SECONDS)
    for index in watch_items(Screen(), range(count), "writing", count, "pieces"):
        random = np.random.default_rng((arguments.seed, index))
        piece = compose(SECONDS, random, arguments.choirs)
        play(piece, SECONDS, arguments.soundfont, folder / f"{index:04}.flac")


if __name__ == "__main__":
    main()
