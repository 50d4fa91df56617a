"""`splitter doctor`: what is installed, what works, what is wrong."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import click

from splitter.cli.command import pass_screen, volume
from splitter.cli.messages import complain
from splitter.cli.models import describe_model
from splitter.cli.screen import Screen, State
from splitter.errors import SplitterError
from splitter.registry import find_model, list_added, list_models
from splitter.version import __version__

PACKAGES = (
    *("numpy", "scipy", "soundfile", "soxr", "av", "mutagen", "safetensors", "librosa"),
    *("openvino", "musdb", "click", "pyyaml", "platformdirs"),
)
EXTRAS = ("museval", "matplotlib", "ray", "universal-pathlib", "s3fs", "gcsfs")


@click.command()
@volume
@pass_screen
def doctor(screen: Screen) -> None:
    """Check this installation: packages, formats, models and devices.

    The exit status is 1 if anything is wrong.
    """
    python = f"Python {platform.python_version()} ({sys.executable})"
    click.echo(f"splitter {__version__}, {python}, {platform.platform()}")
    checks = {
        "looking at packages": _list_packages,
        "trying formats": _list_formats,
        "looking at models": _list_models,
        "loading PyTorch": _list_devices,
        "trying models": _try_all,
    }
    healthy = [_report(screen, doing, check) for doing, check in checks.items()]
    screen.clear()
    if not all(healthy):
        raise click.exceptions.Exit(1)
    click.echo("everything works")


def _report(screen: Screen, doing: str, check: Callable[[], Iterator[str]]) -> bool:
    """Print what a check finds; tell whether it got to its end."""
    try:
        screen.show(State(doing))
        for line in check():
            with screen.aside():
                click.echo(line)
    except BrokenPipeError:  # nobody reads on: nothing is wrong here
        raise
    except (SplitterError, ImportError, OSError) as error:
        complain(error)
        return False
    return True


def _list_packages() -> Iterator[str]:
    yield "packages: " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield "optional: " + ", ".join(f"{name} {_find_version(name)}" for name in EXTRAS)


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _list_formats() -> Iterator[str]:
    from splitter.audio import CONTAINERS, OutputFormat, check_outputs, fit_format

    for name in CONTAINERS:
        settled = fit_format(OutputFormat(name), 44100, channels=2, bits=16)
        check_outputs((), settled, rate=44100, channels=2, samples=0)
    yield f"writes: {', '.join(CONTAINERS)}"


def _list_models() -> Iterator[str]:
    names = list_models()
    if not names:
        raise SplitterError("splitter was installed without its models; install it again")
    for name in names:
        yield f"model: {describe_model(find_model(name))}"
    broken = []
    for name in list_added():
        try:
            yield f"added: {describe_model(find_model(name))}"
        except SplitterError as error:
            broken.append(str(error))
    if broken:
        raise SplitterError("; ".join(broken))


def _list_devices() -> Iterator[str]:
    import torch

    from splitter.devices import fast_dtype, pick_device

    device = pick_device()
    name = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    precision = str(fast_dtype(device)).removeprefix("torch.")
    threads = f"{torch.get_num_threads()} threads"
    yield f"torch {torch.__version__}, computes on {device}{name}, {precision}, {threads}"


def _try_all() -> Iterator[str]:
    """Separate a second of noise with each model."""
    import numpy as np

    from splitter.runtime.computing import Streaming
    from splitter.runtime.ready import load_model
    from splitter.separation import separate

    song = np.float32(0.1) * np.random.default_rng(0).standard_normal((2, 44100), np.float32)
    for name in list_models():
        model = load_model(name)
        stems = separate(song, 44100, model)
        if not np.allclose(sum(stems.values()), song, atol=1e-6):
            raise SplitterError(
                f"{name}: its stems do not add up to the song; install splitter again"
            )
        yield f"{name} works, on {'OpenVINO' if isinstance(model, Streaming) else 'PyTorch'}"
