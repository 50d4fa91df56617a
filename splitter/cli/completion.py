"""What a shell offers when Tab is pressed: models, networks, stems, devices, songs and folders.

Formats and other choices are completed by click itself. Nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from splitter.catalogue import read_catalogue
from splitter.errors import SplitterError
from splitter.registry import list_added, list_models

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps")
# the keys of networks.ARCHITECTURES and weights.adding.ADAPTERS, whose import takes long
NETWORKS = (
    "mask-unet", "mask-tfc-tdf", "jansson", "unet-2015", "unet-bn", "fcnvmb", "inversion-net",
    "resunet", "dense-unet", "multires-unet", "r2u-net", "attention-unet", "attention-r2u-net",
    "unet-3d", "non-local-unet", "mobile-unet", "sid-unet", "vq-unet", "wave-u-net", "conv-tasnet",
    "roformer", "demucs", "wave-demucs", "demucs-bag", "open-unmix", "mdx23c", "mdx-net",
    "spleeter", "vr",
)  # fmt: skip
FAMILIES = ("roformer", "demucs", "openunmix", "spleeter", "mdx23c", "mdx-net", "vr")


def complete_models(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the models that are installed, or the folder of another one."""
    offered = _complete_list([*list_models(), *list_added()], typed)
    return offered or [CompletionItem(typed, type="dir")]


def complete_added(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the models that were added."""
    return _complete_name(list_added(), typed)


def complete_catalogue(
    context: click.Context, _: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Offer the models that can be downloaded, and are not there yet."""
    try:
        known = read_catalogue(context.params.get("catalogue"))
    except SplitterError:
        return []
    return _complete_name(sorted(known.keys() - list_added()), typed)


def complete_networks(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the networks."""
    return _complete_name(NETWORKS, typed)


def complete_families(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Offer the families of other programs' networks."""
    return _complete_name(FAMILIES, typed)


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
    return _complete_name(DEVICES, typed)


def complete_files(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Have the shell offer files and folders."""
    return [CompletionItem(typed, type="file")]


def complete_folders(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Have the shell offer folders."""
    return [CompletionItem(typed, type="dir")]


def _complete_name(known: Iterable[str], typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(typed)]


def _complete_list(known: Iterable[str], typed: str) -> list[CompletionItem]:
    """Complete the last name of several with commas between."""
    before, comma, last = typed.rpartition(",")
    taken = before.split(",")
    names = [name for name in known if name.startswith(last) and name not in taken]
    return [CompletionItem(f"{before}{comma}{name}") for name in names]
