"""Every family of other programs' weights, held to what its own program made of a song.

Demucs takes the mean of the whole song away first. A stream has none: it is taken away here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from splitter.errors import ModelError
from splitter.loading import Model, build_network, load_model
from splitter.separation import Computing, separate
from splitter.weights import demucs, mdxnet, openunmix, roformer, spleeter
from splitter.weights.adding import ADAPTERS, add_model
from splitter.weights.checkpoint import Checkpoint, read_checkpoint
from splitter.weights.stems import name_stems
from splitter.weights.tensorflow import read_fields
from tests.foreign import RATE, REFERENCES, STRIDE, bag_of, checkpoint_files, reference_song
from tests.test_separation import decibels

DEMUCS = ("drums", "bass", "other", "vocals")
# folder of tests/references → its files, and what its program calls the stems that are ours
FAMILIES: dict[str, dict[str, str]] = {
    "bs-roformer": {"Vocals": "vocals"},
    "mel-band-roformer": {"vocals": "vocals", "other": "instrumental"},
    "htdemucs": dict(zip(DEMUCS, DEMUCS, strict=True)),
    "hdemucs": dict(zip(DEMUCS, DEMUCS, strict=True)),
    "hdemucs-masks": dict(zip(DEMUCS, DEMUCS, strict=True)),
    "wave-demucs": dict(zip(DEMUCS, DEMUCS, strict=True)),
    "demucs-2": dict(zip(DEMUCS, DEMUCS, strict=True)),
    "demucs-bag": dict(zip(DEMUCS, DEMUCS, strict=True)),
    "spleeter-2stems": {"vocals": "vocals", "accompaniment": "instrumental"},
    "spleeter-5stems": {stem: stem for stem in ("vocals", "piano", *DEMUCS[:3])},
    "mdx23c": {"Vocals": "vocals", "Instrumental": "instrumental"},
    "mdx-net": {"Vocals": "vocals"},
    "vr": {"Vocals": "vocals"},
    "vr-5.1": {"Instrumental": "instrumental"},
    "openunmix": {"drums": "drums", "vocals": "vocals"},  # files in the order of their names
}
EXACT = Computing(precision="float32")


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory):
    """Add a family's reference checkpoint, once."""
    folder = tmp_path_factory.mktemp("added")

    @cache
    def add(name: str) -> Model:
        return load_model(str(add_model(folder / name, checkpoint_files(name), bag_of(name))))

    return add


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "demucs-bag"])
def test_the_network_answers_as_its_own_program(name: str, added) -> None:
    model, expected = added(name), np.load(REFERENCES / name / "reference.npz")["network"]
    song = reference_song()[None, :, : expected.shape[-1]]
    mean = song.mean() if "demucs" in name else 0
    with torch.inference_mode():
        answer = model.network(torch.from_numpy(song - mean))[0].numpy() + mean
    assert answer.shape == expected.shape
    assert np.abs(answer - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_song_is_separated_as_by_its_own_program(name: str, added) -> None:
    model, reference = added(name), np.load(REFERENCES / name / "reference.npz")
    song = reference_song()
    mean = song.mean() if "demucs" in name else 0
    song = song - mean
    stems = separate(song, RATE, model, EXACT)
    for theirs, ours in FAMILIES[name].items():
        expected = reference[f"song_{theirs}"] - mean
        answer = stems[ours][:, ::STRIDE][:, : expected.shape[1]]
        assert decibels(expected, answer - expected) > 60
    total = sum(stems[stem] for stem in model.stems)
    assert np.abs(total - song).max() < 1e-6 * max(1, *(np.abs(s).max() for s in stems.values()))


def test_a_graph_whose_input_has_no_bins_is_refused() -> None:
    checkpoint = read_checkpoint(*checkpoint_files("mdx-net"))
    assert mdxnet.convert(checkpoint).config.sizes["bins"] == checkpoint.facts["shape"][2]
    for shape in ([], [1, 4]):
        with pytest.raises(ModelError, match="its graph is not that of any MDX-Net"):
            mdxnet.convert(replace(checkpoint, facts={**checkpoint.facts, "shape": shape}))


def encode(fields: Iterable[tuple[int, int | bytes]]) -> bytes:
    """Write a protocol buffer of what `read_fields` gave of it."""
    content = b""
    for number, value in fields:
        counts = [number << 3, value] if isinstance(value, int) else [number << 3 | 2, len(value)]
        for count in counts:
            while count > 127:
                content += bytes([count & 127 | 128])
                count >>= 7
            content += bytes([count])
        content += b"" if isinstance(value, int) else value
    return content


@pytest.mark.parametrize(("kind", "number"), [("<f2", 10), ("<f8", 11)])
def test_a_graph_may_have_its_weights_as_halves_or_doubles(
    kind: str, number: int, tmp_path: Path
) -> None:
    (path,) = checkpoint_files("mdx-net")

    def change(tensor: bytes) -> bytes:
        fields = dict(read_fields(tensor))
        if fields.get(2) != 1:  # no floats
            return tensor
        raw = np.frombuffer(fields[9], "<f4").astype(kind).tobytes()
        new = {2: number, 9: raw}
        return encode((key, new.get(key, value)) for key, value in read_fields(tensor))

    model = list(read_fields(path.read_bytes()))
    graph = [
        (key, change(value) if key == 5 else value) for key, value in read_fields(dict(model)[7])
    ]
    changed = tmp_path / path.name
    changed.write_bytes(encode((key, encode(graph) if key == 7 else one) for key, one in model))
    expected, answer = read_checkpoint(path).tensors, read_checkpoint(changed).tensors
    assert list(answer) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(answer[name], tensor, atol=1e-6, rtol=1e-3)


def test_what_a_demucs_does_not_say_is_as_its_program_has_it() -> None:
    said = "depth", "t_layers", "t_heads", "t_hidden_scale", "segment", "dconv_comp"
    assert [demucs.CLASSES["HTDemucs"][key] for key in said] == [4, 5, 8, 4.0, 10, 8]
    said = "depth", "dconv_comp", "dconv_attn", "dconv_lstm", "segment", "channels"
    assert [demucs.CLASSES["HDemucs"][key] for key in said] == [6, 4, 4, 4, 40, 48]
    assert [demucs.CLASSES["Demucs"][key] for key in said] == [6, 4, 4, 4, 40, 64]


@pytest.mark.parametrize(
    ("instruments", "target", "expected"),
    [
        (["vocals", "other"], None, (["vocals", "instrumental"], "rest")),
        (["Vocals", "Instrumental"], "Vocals", (["vocals"], "instrumental")),
        (["karaoke", "other"], "karaoke", (["vocals"], "instrumental")),  # the lead voice
        (["No Echo"], None, (["no-echo"], "echo")),
        (["No Vocals"], None, (["instrumental"], "vocals")),
        (["drums"], None, (["drums"], "no_drums")),
    ],
)
def test_stems_have_the_names_of_what_they_hold(
    instruments: list[str], target: str | None, expected: tuple[list[str], str]
) -> None:
    assert name_stems(instruments, target) == expected


def test_other_is_the_instrumental_only_where_nothing_else_is_left() -> None:
    assert name_stems(["vocals", "other"], whole=False) == (["vocals", "other"], "rest")


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("bs-roformer", ("model", "skip_connection"), True),
        ("bs-roformer", ("model", "stft_normalized"), True),
        ("mel-band-roformer", ("model", "stft_win_length"), 512),
        ("mdx23c", ("inference", "normalize"), True),
        ("spleeter-2stems", ("mask_extension",), "average"),
        ("spleeter-2stems", ("separation_exponent",), 1),
    ],
)
def test_what_no_tensor_tells_and_is_not_built_here_is_refused(
    name: str, path: tuple[str, ...], value: object
) -> None:
    checkpoint = read_checkpoint(*checkpoint_files(name))
    family = "roformer" if "roformer" in name else name.partition("-")[0]
    facts = json.loads(json.dumps(checkpoint.facts, default=str))
    place = facts
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    with pytest.raises(ModelError, match=re.escape(".".join(path)) + " is .* only .* is supported"):
        ADAPTERS[family].convert(replace(checkpoint, facts=facts))


def test_a_roformer_may_leave_out_what_has_no_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read_checkpoint(*checkpoint_files("bs-roformer"))
    song, masked = torch.from_numpy(reference_song()[None, :, :10240]), []
    for zero_dc in (False, True):
        model = {**checkpoint.facts["model"], "zero_dc": zero_dc}
        facts = {**checkpoint.facts, "model": model}
        converted = ADAPTERS["roformer"].convert(replace(checkpoint, facts=facts))
        network = build_network(converted.config, checkpoint.path).eval()
        network.load_state_dict(converted.tensors)
        inverse = network.stft.inverse
        monkeypatch.setattr(
            network.stft,
            "inverse",
            lambda s, n, inverse=inverse: (masked.append(s), inverse(s, n))[1],
        )
        with torch.inference_mode():
            network(song)
    without, with_zeros = masked
    assert without[..., 0, :].abs().max() > 0
    assert not with_zeros[..., 0, :].any()
    torch.testing.assert_close(without[..., 1:, :], with_zeros[..., 1:, :])


def test_a_demucs_of_another_training_program_says_in_its_yaml_what_it_is() -> None:
    (path,) = checkpoint_files("htdemucs")
    own = read_checkpoint(path)
    given = dict(own.facts["kwargs"])
    training = {"instruments": own.facts["args"][0], "segment": given.pop("segment", 10)}
    training |= {"samplerate": given.pop("samplerate", RATE)}
    training |= {"channels": given.pop("audio_channels", 2)}
    facts = {"model": "htdemucs", "htdemucs": {**given, "num_subbands": 1}, "training": training}
    other = demucs.convert_one(replace(own, facts=facts))
    assert other.config == demucs.convert_one(own).config
    facts["htdemucs"] = {**given, "num_subbands": 2}
    with pytest.raises(ModelError, match=r"htdemucs\.num_subbands is 2"):
        demucs.convert_one(replace(own, facts=facts))


def test_the_yaml_of_a_bag_of_one_says_how_long_its_tiles_are() -> None:
    (path,) = checkpoint_files("hdemucs")
    own = read_checkpoint(path)
    facts = {**own.facts, "models": [path.name[:8]], "segment": 44}  # as that of hdemucs_mmi
    converted = demucs.convert(demucs.join([replace(own, facts=facts)]))
    assert converted.config.sizes["tile"] == 44 * RATE


def test_a_bag_may_count_a_model_twice() -> None:
    checkpoints = [
        read_checkpoint(path, bag_of("demucs-bag")) for path in checkpoint_files("demucs-bag")
    ]
    first, second = checkpoints
    facts = {**first.facts, "models": ["11111111", "00000000", "11111111"]}
    first = replace(first, facts=facts)
    assert demucs.join([first, second]).facts["members"] == [second, first, second]
    with pytest.raises(ModelError, match=r"models are 11111111, 00000000; .* not 00000000-155f"):
        demucs.join([first])


def fewer_stems(name: str, stems: int) -> Checkpoint:
    """A Spleeter of the first stems of another one."""
    whole = read_checkpoint(*checkpoint_files(name))
    most = {"conv2d": 7, "conv2d_transpose": 6, "batch_normalization": 12}
    tensors = {}
    for tensor in whole.tensors:
        kind, number = re.fullmatch(r"([a-z2d]+?(?:_[a-z]+)?)(?:_(\d+))?/.*", tensor).groups()
        if int(number or 0) < stems * most[kind]:
            tensors[tensor] = whole.tensors[tensor]
    facts = {**whole.facts, "instrument_list": whole.fact("instrument_list")[:stems]}
    return replace(whole, tensors=tensors, facts=facts)


def test_a_spleeter_that_people_trained_has_the_stems_of_its_json() -> None:
    three = fewer_stems("spleeter-5stems", 3)
    config = spleeter.convert(three).config
    assert config.stems == ("vocals", "piano", "drums")
    assert (config.sizes["masks"], config.sizes["activation"]) == ("softmax", "elu")
    for key in ("instrument_list", "model"):
        facts = {name: value for name, value in three.facts.items() if name != key}
        with pytest.raises(ModelError, match=f"its tensors do not tell {key}"):
            spleeter.convert(replace(three, facts=facts))


def test_the_json_of_a_spleeter_says_its_activations() -> None:
    checkpoint = read_checkpoint(*checkpoint_files("spleeter-5stems"))
    model = {"type": "unet.unet", "params": {}}  # what is left out is as the program has it
    sizes = spleeter.convert(
        replace(checkpoint, facts={**checkpoint.facts, "model": model})
    ).config.sizes
    assert (sizes["masks"], sizes["activation"]) == ("sigmoid", "relu")
    model = {"type": "unet.unet", "params": {"conv_activation": "ReLU"}}
    with pytest.raises(ModelError, match="activations ReLU and ReLU are not supported"):
        spleeter.convert(replace(checkpoint, facts={**checkpoint.facts, "model": model}))


@pytest.mark.parametrize("name", ["bs-roformer", "mel-band-roformer"])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_tensors_of_a_roformer_tell_its_channels(name: str, channels: int) -> None:
    checkpoint = read_checkpoint(*checkpoint_files(name))
    facts = {**checkpoint.facts, "model": dict(checkpoint.facts["model"])}
    del facts["model"]["stereo"]
    tensors = {
        key: tensor[..., :: 3 - channels] if re.match(r"band_split.*1\.weight", key) else tensor
        for key, tensor in checkpoint.tensors.items()
    }
    converted = roformer.convert(replace(checkpoint, tensors=tensors, facts=facts))
    expected = roformer.convert(checkpoint).config
    assert converted.config == replace(expected, channels=channels)


class Rest(torch.nn.Module):
    """What a target leaves of a song's magnitude."""

    def __init__(self, target: torch.nn.Module) -> None:
        super().__init__()
        self.target = target

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        return magnitude - self.target(magnitude)


def test_one_target_of_openunmix_is_filtered_beside_what_it_leaves() -> None:
    """The filter of several targets is held to its program by the reference."""
    file = REFERENCES / "openunmix" / "vocals.pth"
    converted = openunmix.convert(openunmix.join([read_checkpoint(file)]))
    one = build_network(converted.config, file).eval()
    one.load_state_dict(converted.tensors)
    two = build_network(replace(converted.config, stems=("vocals", "x")), file).eval()
    two.targets = torch.nn.ModuleList([one.targets[0], Rest(one.targets[0])])
    song = torch.from_numpy(reference_song(0.5)[None])
    with torch.inference_mode():
        answer, expected = one(song), two(song)[:, :1]
        one.wiener = 0
        assert (one(song) - answer).abs().max() > 1e-3
    # in double precision, from magnitudes that were subtracted in another way
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)
