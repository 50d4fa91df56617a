"""UVR's VR architecture: tables of bands, what UVR knows by hash, and what files must say."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from splitter.errors import ModelError
from splitter.networks.resampling import change_rate
from splitter.networks.vr import MIXES, VrSizes
from splitter.registry import config_from
from splitter.schema import parse
from splitter.weights import vr
from splitter.weights.adding import convert_files
from splitter.weights.checkpoint import hash_tail
from tests.foreign import REFERENCES

KNOWN = json.loads((Path(vr.__file__).with_name("vr.json")).read_text())


@pytest.mark.parametrize("mix", MIXES)
def test_mixed_channels_are_unmixed(mix: str) -> None:
    there, back = (np.array(matrix) for matrix in MIXES[mix])
    assert np.allclose(back @ there, np.eye(2))


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 14700), (7350, 14700), (6000, 32000)])
def test_bands_change_rates_as_scipy_does(rate: int, wanted: int) -> None:
    sound = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    expected = resample_poly(sound, wanted, rate, axis=-1)
    answer = change_rate(rate, wanted)(torch.from_numpy(sound[None]))[0].numpy()
    assert answer.shape == expected.shape
    assert np.abs(answer - expected).max() < 1e-5


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", KNOWN["bands"])
def test_every_table_of_bands_makes_a_network(name: str, recurrent: bool) -> None:
    sizes = vr._read_table(KNOWN["bands"][name], recurrent)
    # UVR plays the newer networks no sound backwards, whatever the table says
    assert sizes["backwards"] == (name.endswith("_reverse") and not recurrent)
    sizes |= {"width": 4, "lstm": 8 * recurrent}
    with torch.device("meta"):
        network = parse(VrSizes, json.loads(json.dumps(sizes))).build(2, 1)
    assert network.own_tiles is not None


def test_every_file_that_uvr_knows_has_a_table() -> None:
    assert all(model["vr_model_param"] in KNOWN["bands"] for model in KNOWN["models"].values())


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (None, "primary_stem"),
        ({"primary_stem": "Vocals"}, "vr_model_param"),
        ({"primary_stem": "Vocals", "vr_model_param": "5band"}, "5band"),
        ({"primary_stem": "Vocals", "vr_model_param": "4band_v3", "aggressiveness": 101}, "101"),
    ],
)
def test_what_tensors_do_not_tell_is_asked_for(facts: object, words: str, tmp_path: Path) -> None:
    path = Path(shutil.copy(REFERENCES / "vr" / "model.pth", tmp_path))
    if facts is not None:
        path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=words):
        convert_files([path])


def test_a_contradiction_between_json_and_tensors_names_both(tmp_path: Path) -> None:
    path = Path(shutil.copy(REFERENCES / "vr-5.1" / "model.pth", tmp_path))
    facts = {"primary_stem": "Vocals", "vr_model_param": "4band_v3", "nout": 48}
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=r"nout 8, but .*model.json says 48"):
        convert_files([path])


def test_a_file_that_uvr_knows_by_its_hash_needs_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(REFERENCES / "vr" / "model.pth", tmp_path))
    known = {"vr_model_param": "4band_44100", "primary_stem": "No Piano"}
    table = {**KNOWN, "models": {hash_tail(path): known}}
    monkeypatch.setattr(vr, "_read_known", lambda: table)
    config = config_from(json.loads(json.dumps(asdict(convert_files([path]).config))), path)
    assert config.sizes["rows"] == 768
    assert config.stems == ("no-piano",)


def test_both_widest_branches_have_the_last_ones_weights(tmp_path: Path) -> None:
    for file in ("model.pth", "model.json"):
        shutil.copy(REFERENCES / "vr" / file, tmp_path)
    path = tmp_path / "model.pth"
    before = convert_files([path]).tensors
    tensors = torch.load(path, weights_only=True)
    place = "stg3_full_band_net.aspp.conv6.conv.0.weight"
    tensors[place] = tensors[place] + 1
    torch.save(tensors, path)
    after = convert_files([path]).tensors
    assert all(torch.equal(before[name], after[name]) for name in before)
