"""`splitter listen`: a page per song, on which its stems are heard, seen and compared."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from splitter.cli.command import Command, option, pass_screen, volume
from splitter.cli.completion import complete_files, complete_folders, complete_models
from splitter.cli.messages import count
from splitter.cli.options import PIPE
from splitter.cli.pages import is_done, write_and_tell
from splitter.cli.parameters import parse_place
from splitter.cli.screen import Screen, State
from splitter.errors import PageError
from splitter.paths import is_local, is_pipe
from splitter.registry import DEFAULT_MODEL, ModelChoice
from splitter.templates import TEMPLATE

if TYPE_CHECKING:
    from splitter.jobs import Job
    from splitter.pages import FoundTake, Take

log = logging.getLogger(__name__)

PLAYED = ("wav", "flac", "mp3", "ogg", "opus", "m4a")  # by browsers
HEARD = frozenset({*PLAYED, "aac", "m4b", "oga"})  # what they play, however it is called
OF_MODELS = "{name}/{model}/{stem}.{ext}"  # where stems of several models go
PAGE = "listen.html"  # of several models
INDEX = "index.html"

EXAMPLES = [
    ("splitter listen song.mp3", "Separates the song, and writes song/listen.html."),
    ("splitter listen Stems", "Writes a page for each song's stems, and Stems/index.html."),
    ("splitter listen song.mp3 -m unet -m unet-fast", "Compares two models, also blind."),
]


@click.command(cls=Command, examples=EXAMPLES)
@click.argument(
    "songs",
    nargs=-1,
    type=parse_place,
    metavar="SONGS_OR_STEMS...",
    required=True,
    shell_complete=complete_files,
)
@option(
    "-o",
    "--output",
    default=".",
    metavar="FOLDER",
    shell_complete=complete_folders,
    help="Write the stems and pages of songs to this folder.  [default: the current folder]",
)
@option("-r", "--recursive", is_flag=True, help="Search the folders in a folder, too.")
@option(
    "-m",
    "--model",
    "models",
    shell_complete=complete_models,
    multiple=True,
    help=f"Separate songs with this model; give several to compare them.  [default: "
    f"{DEFAULT_MODEL}]",
)
@option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    metavar="FOLDER",
    help="Compare with the stems in this folder, by any model or tool. Repeatable.",
)
@option(
    "-f",
    "--format",
    "container",
    type=click.Choice(PLAYED, case_sensitive=False),
    default="wav",
    show_default=True,
    help="Write the stems of songs in this format.",
)
@volume
@click.pass_context
@pass_screen
def listen(
    screen: Screen,
    context: click.Context,
    /,
    songs: Sequence[Path],
    output: str,
    recursive: bool,
    models: Sequence[str],
    against: Sequence[Path],
    container: str,
) -> None:
    """Write a page for each song, on which you hear, see and compare its stems.

    SONGS_OR_STEMS are songs, which are separated first, or folders of stems such as
    <song>/vocals.wav. The page plays the stems in step, with mute, solo and a fader for each, and
    shows their waveforms and spectrograms. It is one HTML file that needs no server and no network.
    The paths of the pages are printed to standard output.
    """
    names = _check_asked(songs, output, models)
    screen.show(State("loading"))
    from splitter.pages import find_takes
    from splitter.plots import import_imsave

    import_imsave()  # if it is not installed, say so before anything is separated
    others = {folder: find_takes(folder) for folder in against}
    for folder, known in others.items():
        if not known:
            raise click.UsageError(f"--against {folder}: has no stems in it; name another folder")
    found = {place: find_takes(place) if place.is_dir() else {} for place in songs}
    unseparated = [place for place, takes in found.items() if not takes]
    if not unseparated:
        _check_unused(context)
    _tell_unplayed([*found.values(), *others.values()])
    pages: list[Path | None] = []
    called: dict[Path, Path] = {}  # page → the song that it is of, where stems were found
    for place, takes in found.items():
        _tell_passed_over(place, takes)
        for name, take in takes.items():
            title = (place / name).resolve().name
            rivals = _find_rivals(others, name, title, take.song)
            called[take.page] = place / name
            pages.append(write_and_tell(screen, take.page, title, [take, *rivals]))
    failed = False
    if unseparated:
        chosen = models or (DEFAULT_MODEL,)
        template = OF_MODELS if len(chosen) > 1 else TEMPLATE
        more = ["-f", container, "--template", template, "--skip-existing", *["-r"] * recursive]
        jobs = []
        for model in chosen:
            done: list[Job] = []
            asked = ["-o", output, "-m", model, *more]
            # without a model, stems that are there are heard, whoever made them
            well = _separate(screen, done, unseparated, asked, keep_existing=not models)
            jobs.append(done)
            failed = failed or not well
        pages += _write_for_jobs(screen, jobs, names, others)
    written = [page for page in pages if page]
    homes = [place if takes else Path(output) for place, takes in found.items()]
    several = any(place.is_dir() and Path() not in takes for place, takes in found.items())
    if written and (several or len(pages) > 1):
        _write_index(homes, written, called)
    if failed or not written or len(written) < len(pages):
        raise click.exceptions.Exit(1)


def _write_for_jobs(
    screen: Screen,
    jobs: Sequence[Sequence[Job]],  # by model
    names: Sequence[str],  # of the models
    others: Mapping[Path, Mapping[Path, FoundTake]],
) -> Iterator[Path | None]:
    from splitter.pages import Take, name_page

    known = [{job.song: job for job in done} for done in jobs]
    for song in known[0]:
        # a song that came while the first model was at work is not by that one
        versions = [by_song[song] for by_song in known if song in by_song]
        if len(versions) == len(known) and all(map(is_done, versions)):
            page = name_page(versions[0].stems)
            if len(versions) > 1:
                page = page.parent.parent / PAGE
            title = versions[0].song.stem
            pairs = zip(names, versions, strict=True)
            takes = [Take(_find_maker(job, name), job.stems) for name, job in pairs]
            takes += _find_rivals(others, Path(title), title, title)
            yield write_and_tell(screen, page, title, takes)


def _find_maker(job: Job, asked: str) -> str:
    """Name the model that made a song's stems: by their marks, or as asked where they have none."""
    from splitter.audio import may_lack_mark, read_mark

    marks = [read_mark(path) for path in job.stems.values()]
    makers = {mark.model if mark else None for mark in marks}
    maker = makers.pop() if len(makers) == 1 else None
    return maker or (asked if all(map(may_lack_mark, job.stems.values())) else "unknown")


def _separate(
    screen: Screen,
    jobs: list[Job],
    songs: Sequence[Path],
    options: Sequence[str],
    keep_existing: bool,
) -> bool:
    """Separate songs as `splitter separate` does with these options, and note all jobs."""
    from splitter.cli.separate import separate, separate_songs

    arguments = [*options, "--", *map(os.fspath, songs)]
    with separate.make_context("separate", arguments, obj=screen) as context:
        return separate_songs(screen, jobs, **context.params, keep_existing=keep_existing)


def _find_rivals(
    others: Mapping[Path, Mapping[Path, FoundTake]], name: Path, title: str, song: str
) -> Iterator[Take]:
    """Find a song's stems in the folders that it is to be compared with; it may be in one only.

    `song` is its title without what a program may have added to it.
    """
    for folder, takes in others.items():
        for known in (name, Path(title), Path(song), Path()):
            if known in takes and (known != Path() or len(takes) == 1):
                yield takes[known]
                break
        else:
            alike = {
                place: take
                for place, take in takes.items()
                if take.song and take.song in (title, song)
            }
            same = [take for place, take in alike.items() if place.parent == name.parent]
            called = same or list(alike.values())
            if not called:
                log.warning("%s: %s has no stems of it", title, folder)
            elif len(called) > 1:
                log.warning("%s: %s has stems of it by several models", title, folder)
            else:
                yield called[0]


def _check_asked(songs: Sequence[Path], output: str, models: Sequence[str]) -> Sequence[str]:
    """Refuse what cannot be heard, before any work; return the names of the models."""
    names = [ModelChoice.parse(model).name for model in models or (DEFAULT_MODEL,)]
    if len(set(names)) < len(names):
        raise click.UsageError(
            "two of the models have the same name; give one a folder of another name"
        )
    for song in songs:
        if not is_local(song):
            raise click.UsageError(
                f"{song}: download it first; pages are of what lies on a disk here"
            )
        if len(names) > 1 and (str(song) == PIPE or is_pipe(song)):
            raise click.UsageError(f"{song}: can be read only once; give one model, or a file")
    if output == PIPE or Path(output).suffix.lower().removeprefix(".") in PLAYED:
        raise click.UsageError(f"-o {output}: name a folder; pages and stems are several files")
    return names


def _tell_passed_over(place: Path, takes: Mapping[Path, FoundTake]) -> None:
    """Name songs beside stems: a folder is heard for its stems, and they are not separated."""
    from splitter.pages import find_passed_over

    songs = list(find_passed_over(place, takes)) if takes else []
    if songs:
        what = f"{count(len(songs), 'song')} {'is' if len(songs) == 1 else 'are'} passed over"
        told = f"{place}: has stems, so {what}, such as {songs[0].relative_to(place)}"
        log.warning("%s; name songs to hear them", told)


def _tell_unplayed(folders: Iterable[Mapping[Path, Take]]) -> None:
    """Name stems that hardly any browser plays."""
    takes = (take for folder in folders for take in folder.values())
    paths = (path for take in takes for path in take.stems.values())
    stems = [path for path in paths if path.suffix.lower().removeprefix(".") not in HEARD]
    if stems:
        which = f"{count(len(stems), 'stem')}, such as {stems[0]}"
        log.warning("few browsers play %s; convert what is not heard to flac, say", which)


def _check_unused(context: click.Context) -> None:
    """Refuse what says how songs are separated, where there are none: nothing would heed it."""
    named = {"models": "--model", "output": "--output", "container": "--format"}
    given = [
        option
        for name, option in named.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{' and '.join(given)} would do nothing: these are stems; give songs, or leave it out"
        )


def _write_index(
    homes: Iterable[Path],  # the folders that were given for stems, or for what is separated
    pages: Sequence[Path],
    called: Mapping[Path, Path],  # page → song, unless it lies in the song's own folder
) -> None:
    from splitter.pages import Listing, write_index

    folder = _find_common(set(homes))
    if folder.resolve() == Path(folder.resolve().anchor):
        log.warning("there is no index, since the pages have no folder in common")
        return
    songs = [called.get(page, page.parent) for page in pages]
    names = [_name_below(folder, song) for song in songs]
    write_index(
        folder / INDEX, folder.resolve().name, map(Listing, names, map(Path.resolve, pages))
    )
    click.echo(os.fsencode(str(folder / INDEX)))


def _find_common(homes: Collection[Path]) -> Path:
    """Return the one folder, or the one that all lie in, as seen from here if it can be."""
    if len(homes) == 1:
        return next(iter(homes))
    try:
        folder = os.path.commonpath([home.resolve() for home in homes])
    except ValueError as error:  # on two drives
        raise PageError("cannot write an index: the pages are on different drives") from error
    try:
        return Path(os.path.relpath(folder))
    except ValueError:  # on another drive
        return Path(folder)


def _name_below(folder: Path, song: Path) -> str:
    """Name a song as seen from the index: songs of other albums may be called alike."""
    name = os.path.relpath(song, folder)
    return song.resolve().name if name == os.curdir else Path(name).as_posix()
