"""What a shell offers when Tab is pressed: models, stems, devices, songs and folders.

Formats and other choices are completed by click itself. Nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from splitter.errors import SplitterError
from splitter.registry import list_added, list_models

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps")


def complete_models(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the models that are installed, or the folder of another one."""
    offered = _complete_list([*list_models(), *list_added()], typed)
    return offered or [CompletionItem(typed, type="dir")]


def complete_stems(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the stems of the model that was chosen so far."""
    from splitter.registry import DEFAULT_MODEL, ModelChoice

    model = context.params.get("model") or DEFAULT_MODEL
    try:
        return _complete_list(ModelChoice.parse(model).config.all_stems, typed)
    except SplitterError:
        return []


def complete_devices(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the kinds of device."""
    return _complete_list(DEVICES, typed)


def complete_files(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Have the shell offer files and folders."""
    return [CompletionItem(typed, type="file")]


def complete_folders(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Have the shell offer folders."""
    return [CompletionItem(typed, type="dir")]


def _complete_list(known: Iterable[str], typed: str) -> list[CompletionItem]:
    """Complete the last name of several with commas between."""
    before, comma, last = typed.rpartition(",")
    taken = before.split(",")
    names = [name for name in known if name.startswith(last) and name not in taken]
    return [CompletionItem(f"{before}{comma}{name}") for name in names]
