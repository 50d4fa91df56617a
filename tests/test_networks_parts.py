"""Parts of U-Nets, held against the papers that they are from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from splitter.networks import PRESETS
from splitter.networks.blocks import BLOCKS, Dense, MultiRes, Recurrent, Residual
from splitter.networks.bottoms import NonLocal, Vector
from splitter.networks.crosstransformer import _picture_places, _wave_places
from splitter.networks.demucsparts import LSTM_STEPS, LongShort
from splitter.networks.mask import Views
from splitter.networks.picture import PictureUNet
from splitter.networks.quantising import CODE, Codebook
from splitter.networks.sampling import UP
from splitter.networks.sizes import MaskParts
from splitter.networks.skips import SKIPS, Attention, ResPath, attention_maps
from splitter.spectral import Stft
from tests import zoo
from tests.sounds import noise
from tests.zoo import count_weights, on_paper

PICTURES = [name for name in PRESETS if issubclass(PRESETS[name].sizes, MaskParts)]


def picture_network(name: str, channels: int = 1, **sizes: object) -> PictureUNet:
    network = on_paper(name, channels, **sizes).unet
    assert isinstance(network, PictureUNet)
    return network


def shapes(network: PictureUNet, *size: int) -> list[tuple[int, ...]]:
    """The sizes (rows, frames) of what each block gives, on the way down, at the bottom and up."""
    found: list[tuple[int, ...]] = []
    for block in (*network.before, network.deepest, *network.after):
        block.register_forward_hook(lambda _, __, out: found.append(tuple(out.shape[-2:])))
    network.draw(torch.zeros(1, 1, *size, device="meta"))
    return found


def test_unet_2015_has_the_papers_sizes() -> None:
    network = picture_network("unet-2015", width=64)
    assert round(count_weights(network) / 1e6, 2) == 31.03
    # figure 1: what each level has after its two convolutions
    assert shapes(network, 572, 572) == [
        (568, 568), (280, 280), (136, 136), (64, 64), (28, 28),
        (52, 52), (100, 100), (196, 196), (388, 388),
    ]  # fmt: skip
    assert network.draw(torch.zeros(1, 1, 572, 572, device="meta")).shape == (1, 1, 388, 388)
    assert network(torch.zeros(1, 1, 768, 32, device="meta")).shape == (1, 1, 768, 32)


def test_valid_convolutions_see_mirrored_bands_and_no_zero() -> None:
    network = zoo.build("unet-2015").unet
    flat = torch.ones(1, 2, 64, 64)
    middle = network(flat)[..., 32].unflatten(-1, (-1, network.rows))
    # the same at all bands that lie alike to those of the deepest level: nowhere an edge is seen
    torch.testing.assert_close(middle, middle[..., :1, :].expand_as(middle), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["unet-2015", "wave-u-net"])
def test_valid_convolutions_hear_the_mirror_image_of_an_example_in_training(name: str) -> None:
    network = zoo.build(name)
    part: nn.Module = network.unet if name == "unet-2015" else network
    heard = torch.randn(1, 2, 64, 256) if name == "unet-2015" else torch.randn(1, 2, 2048)
    around = 128 if name == "unet-2015" else 1024  # a multiple of the grid, further than it hears
    mirrored = torch.nn.functional.pad(
        heard, (around, around, *[0] * (2 * heard.ndim - 6)), "reflect"
    )
    with torch.inference_mode():
        expected = part(mirrored)[..., around:-around]
        part.train()
        torch.testing.assert_close(part(heard), expected, rtol=0, atol=1e-5)


def test_unet_bn_keeps_the_size_and_is_deepest_at_14_by_14() -> None:
    network = picture_network("unet-bn")
    found = shapes(network, 224, 224)
    assert found[0] == found[-1] == (224, 224)
    assert found[4] == (14, 14)
    widths = [int(block.outputs) for block in (*network.before, network.deepest)]
    assert widths == [8, 16, 32, 64, 128]


def test_fcnvmb_rounds_up_and_pads_what_was_skipped() -> None:
    network = picture_network("fcnvmb", width=64)
    assert shapes(network, 401, 301)[4] == (26, 19)
    assert network(torch.zeros(1, 1, 401, 301, device="meta")).shape == (1, 1, 401, 301)
    small = zoo.build("fcnvmb").unet
    assert torch.isfinite(small(torch.randn(1, 2, 41, 31))).all()


def test_resunet_has_the_papers_weights() -> None:
    network = picture_network("resunet", 3, width=64)
    shortcuts = sum(count_weights(m) for n, m in network.named_modules() if "shortcut" in n)
    assert (count_weights(network) - shortcuts) / 1e6 == pytest.approx(7.8, rel=0.01)


def test_a_residual_block_begins_with_its_norm_and_ends_with_a_sum() -> None:
    block = Residual(4, 6, 1).eval()
    kinds = [type(layer) for layer in block.layers]
    assert kinds == 2 * [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    signal = torch.randn(1, 4, 8, 8)
    branch = block.layers(signal)
    assert branch.min() < 0  # no ReLU behind it
    torch.testing.assert_close(block(signal), branch + block.shortcut(signal))


def test_sid_and_jansson_have_their_papers_weights() -> None:
    # the program beside the paper: 12 features come out, not 4, and its ways up have no bias
    sid = count_weights(picture_network("sid-unet", width=32))
    assert sid + (12 - 4) * (32 + 1) - (256 + 128 + 64 + 32) == 7_760_268
    # section 3.2, counted: but for the last layer, and norms
    ways = [(1, 16), (16, 32), (32, 64), (64, 128), (128, 256), (256, 512)]
    ways += [(512, 256), (512, 128), (256, 64), (128, 32), (64, 16), (32, 1)]
    papers = sum(25 * inputs * outputs for inputs, outputs in ways)
    assert count_weights(on_paper("jansson").unet) == pytest.approx(papers, rel=0.002)


def test_inversion_net_hears_only_what_its_vector_holds() -> None:
    network = zoo.build("inversion-net").unet
    pictures = torch.randn(2, 2, 64, 32)
    assert not torch.allclose(*network(pictures).split(1))
    network.bottom.press.register_forward_hook(lambda _m, _i, out: torch.zeros_like(out))
    torch.testing.assert_close(*network(pictures).split(1))


@pytest.mark.parametrize("name", ["r2u-net", "attention-r2u-net"])
def test_all_blocks_of_r2u_nets_are_recurrent(name: str) -> None:
    network = zoo.build(name).unet
    blocks = [*network.before, network.deepest, *network.after]
    assert all(isinstance(block, Recurrent) for block in blocks)


def test_the_picture_itself_has_a_plain_layer_in_mobile_unet() -> None:
    network = zoo.build("mobile-unet").unet
    assert network.before[0][0].groups == 1
    assert network.before[0][0].kernel_size == (3, 3)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sum(layer.groups > 1 for layer in layers) == 9  # two a block, but for that one


@pytest.mark.parametrize(
    ("width", "published"),
    [(32, [8, 17, 26]), (64, [17, 35, 53]), (128, [35, 71, 106]), (256, [71, 142, 213])],
)
def test_multires_blocks_split_their_features_as_published(
    width: int, published: list[int]
) -> None:
    block = MultiRes(3, width, 1)
    assert [convolution[0].out_channels for convolution in block.chain] == published
    assert block.outputs == sum(published)


def test_multires_unet_has_the_papers_weights() -> None:
    # table 2 says 7.3 million, against 7.8 of the U-Net with batch norm
    weights = count_weights(picture_network("multires-unet", 3, width=32))
    assert weights / 1e6 == pytest.approx(7.26, rel=0.03)


def test_res_paths_are_four_three_two_one_long() -> None:
    assert [len(ResPath(8, 8, level).wide) for level in range(4)] == [4, 3, 2, 1]


def test_dense_blocks_grow_by_an_eighth_and_end_with_all() -> None:
    block = Dense(5, 32, 1).eval()
    assert [layer[0].in_channels for layer in block.layers] == [16, 20, 24, 28]
    signal = torch.randn(1, 5, 8, 8)
    assert torch.equal(block(signal)[:, :16], block.narrow(signal))  # still there


def test_recurrent_convolutions_share_their_weights() -> None:
    block = Recurrent(4, 6, 1)
    assert count_weights(block) == (4 * 6 + 6) + 2 * (6 * 6 * 9 + 2 * 6)
    calls = []
    block.layers[0].register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(1, 4, 8, 8))
    assert len(calls) == 3  # t = 0, 1, 2


def test_depthwise_convolutions_cost_what_the_paper_says() -> None:
    features, costs = 48, {}
    for name in ("plain", "depthwise"):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            BLOCKS[name](features, features, 1)(torch.zeros(1, features, 32, 32))
        costs[name] = counter.get_total_flops()
    assert costs["depthwise"] / costs["plain"] == pytest.approx(1 / features + 1 / 9)


@pytest.mark.parametrize("name", PICTURES)
def test_a_skip_joins_what_its_own_level_had_on_the_way_down(name: str) -> None:
    network = zoo.build(name).unet
    made: dict[int, torch.Tensor] = {}
    joined: list[int] = []
    for level, block in enumerate(network.before):
        block.register_forward_hook(lambda _, __, out, level=level: made.update({level: out}))

    def look(_: nn.Module, given: tuple[torch.Tensor, torch.Tensor]) -> None:
        skipped, risen = given
        joined.append(next(level for level, out in made.items() if out is skipped))
        eaten = skipped.shape[-1] - risen.shape[-1], skipped.shape[-2] - risen.shape[-2]
        assert (eaten == (0, 0)) or (network.margin and eaten[0] == eaten[1] > 0)

    for skip in network.skips:
        skip.register_forward_pre_hook(look)
    network(torch.randn(1, 2 * len(zoo.small(name).views.lengths) + 2, 64, 16))
    assert joined == list(reversed(range(len(network.before))))


@pytest.mark.parametrize("skip", sorted(set(SKIPS) - {"none"}))
def test_a_skip_lets_the_way_down_through(skip: str) -> None:
    join = SKIPS[skip](4, 6, 1, 16).eval()
    down, up = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 8, 8)
    outputs = join(down, up)
    assert outputs.shape == (1, join.outputs, 8, 8)
    assert not torch.equal(outputs, join(torch.randn(1, 4, 8, 8), up))


@pytest.mark.parametrize("name", ["attention-unet", "attention-r2u-net"])
def test_attention_has_a_coefficient_between_0_and_1_for_each_place_of_each_level(
    name: str,
) -> None:
    network = zoo.build(name).unet
    maps = attention_maps(network, torch.randn(1, 2, 64, 16))
    assert [tuple(each.shape) for each in maps] == [(1, 1, 32, 8), (1, 1, 64, 16)]
    assert all(0 <= each.min() < each.max() <= 1 for each in maps)


def test_a_closed_gate_lets_nothing_through() -> None:
    gate = Attention(4, 6, 0).eval()
    nn.init.constant_(gate.ask.bias, -100.0)
    down, up = torch.randn(1, 4, 8, 8), torch.randn(1, 6, 8, 8)
    assert gate(down, up)[:, :4].abs().max() < 1e-20
    assert torch.equal(gate(down, up)[:, 4:], up)


def test_a_non_local_level_is_attention_over_all_places() -> None:
    layer = NonLocal(4, 3, 5, 1)
    signal = torch.randn(2, 4, 3, 5)
    query, key, value = (conv(signal).flatten(2) for conv in (layer.query, layer.key, layer.value))
    weights = torch.softmax(torch.einsum("bcq,bck->bqk", query, key) / 4**0.5, dim=-1)
    seen = torch.einsum("bqk,bck->bcq", weights, value).view(2, 4, 3, 5)
    torch.testing.assert_close(layer(signal), signal + layer.answer(seen))


def test_a_vector_is_all_that_is_left_of_its_frames() -> None:
    layer = Vector(4, 3, 2, latent=7)
    signal = torch.randn(1, 4, 3, 6, requires_grad=True)
    layer(signal)[0, 0, 0, 2].backward()
    assert signal.grad is not None
    assert signal.grad[0].abs().sum((0, 1)).nonzero().flatten().tolist() == [2, 3]
    first, second = layer(signal)[..., :2], layer(signal[..., :2])
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", UP)
def test_a_way_up_doubles_both_axes(name: str) -> None:
    up = UP[name](6, 3)
    signal = torch.randn(1, 6, *([2] if name == "volume" else []), 5, 7)
    assert up(signal).shape[-2:] == (10, 14)
    assert up(signal).shape[1] == up.outputs


def test_the_views_of_a_spectrogram_are_those_of_shorter_windows() -> None:
    stft = Stft(64, 16)
    signal = noise(160, channels=1)
    views = Views(stft, 3)(stft(torch.from_numpy(signal)[None]))[0]
    padded = np.pad(signal[0], (24, 24))
    for view, size in enumerate((64, 32, 16)):
        window = np.hanning(65)[:64] * (1 if view == 0 else 64 / size)
        if view:
            window = window * np.pad(np.hanning(size + 1)[:size], (64 - size) // 2)
        frames = np.stack([padded[16 * t : 16 * t + 64] * window for t in range(10)])
        np.testing.assert_allclose(views[view], np.abs(np.fft.rfft(frames)).T, atol=1e-5)


def test_a_stack_is_convolved_from_one_window_to_the_next() -> None:
    network = zoo.build("unet-3d").unet
    assert sum(isinstance(module, nn.Conv3d) for module in network.modules()) > 8
    picture = torch.randn(1, 6, 64, 16)
    swapped = picture.unflatten(1, (2, 3))[:, :, [0, 2, 1]].flatten(1, 2)
    assert not torch.allclose(network(picture), network(swapped), atol=1e-4)


def test_a_quiet_song_is_separated_like_a_loud_one_by_sid_unet() -> None:
    network = zoo.small("sid-unet")
    signal = torch.from_numpy(noise(4096))[None]
    with torch.inference_mode():
        torch.testing.assert_close(network(signal * 0.01) * 100, network(signal), rtol=0, atol=1e-4)


def test_vq_unet_has_codes_for_8_by_8_and_4_by_4_as_in_the_paper() -> None:
    network = picture_network("vq-unet")
    coded: list[tuple[int, ...]] = []
    books = [module for module in network.modules() if isinstance(module, Codebook)]
    for book in books:
        book.project.register_forward_hook(lambda _, __, out: coded.append(tuple(out.shape[-2:])))
    network(torch.zeros(1, 1, 768, 256, device="meta"))
    assert coded == [(96, 32), (192, 64)]  # of 256 × 256 pixels: 32 × 32 and 64 × 64


@pytest.mark.parametrize("name", ["unet-2015", "sid-unet"])
def test_what_reaches_the_deepest_level_is_heard_there(name: str) -> None:
    """Without norms, weights as PyTorch draws them would let signals fade away."""
    torch.manual_seed(0)
    network = PRESETS[name].sizes().build(2, 1).unet
    level: dict[str, float] = {}
    for part, module in (("first", network.before[0]), ("deepest", network.deepest)):
        module.register_forward_hook(
            lambda _m, _i, out, part=part: level.update({part: float(out.square().mean())})
        )
    with torch.inference_mode():
        network.draw(torch.rand(1, 2, 256, 256))
    assert 0.1 < level["deepest"] / level["first"] < 10


def codebook() -> Codebook:
    torch.manual_seed(0)
    return Codebook(4, 8)


def test_what_passes_is_the_nearest_code_and_the_gradient_passes_by_it() -> None:
    book = codebook().eval()
    vectors = torch.randn(1, CODE, 3, 5, requires_grad=True)
    book.project = nn.Identity()  # type: ignore[assignment]
    out = book(vectors)
    distances = torch.cdist(vectors.movedim(1, -1).flatten(0, 2), book.codes)
    nearest = book.codes[distances.argmin(-1)].view(1, 3, 5, CODE).movedim(-1, 1)
    torch.testing.assert_close(out, book.expand(nearest))
    out.sum().backward()
    straight = torch.ones_like(out).permute(0, 2, 3, 1) @ book.expand.weight[:, :, 0, 0]
    torch.testing.assert_close(vectors.grad, straight.movedim(-1, 1))


def test_codes_go_where_vectors_are_and_dead_ones_come_back() -> None:
    book = codebook().train()
    book.project = nn.Identity()  # type: ignore[assignment]
    places = torch.randn(8, CODE) * 5
    vectors = places[torch.randint(8, (1000,))].T.reshape(1, CODE, 10, 100)
    book.sizes[3], book.sums[3] = 50.0, 50.0 * 1e3  # a code that nothing is near to
    losses = []
    for _ in range(600):
        book(vectors)
        assert book.loss is not None
        losses.append(float(book.loss.detach()))
    assert book.codes.norm(dim=1).max() < 1.1 * places.norm(dim=1).max()
    chosen = book.choose(vectors.movedim(1, -1))[0].flatten()
    for code in chosen.unique():  # each is the mean of what chose it
        mean = vectors[0].flatten(1)[:, chosen == code].mean(1)
        torch.testing.assert_close(book.codes[code], mean, rtol=0, atol=0.2)
    assert losses[-1] < 0.5 * losses[0]


def test_perplexity_is_the_number_of_codes_that_are_used_alike() -> None:
    book = codebook().train()
    book.project = nn.Identity()  # type: ignore[assignment]
    places = torch.randn(3, CODE) * 5
    with torch.no_grad():
        book.uses.zero_()
        book.sums[:3] = places * book.sizes[:3, None]
    book(places.repeat(20, 1).T.reshape(1, CODE, 6, 10))
    assert (book.sizes > 1).all()  # the five that nothing chose have begun anew
    assert book.measure()["perplexity"] == pytest.approx(3)


def test_a_vector_is_coded_before_its_code_begins_anew() -> None:
    book = codebook().train()
    book.project = nn.Identity()  # type: ignore[assignment]
    rare = torch.full((CODE,), 50.0)
    with torch.no_grad():
        book.sizes[7], book.sums[7] = 0.01, 0.01 * rare  # chosen by one vector of a thousand
    vectors = torch.randn(1, CODE, 10, 100)
    vectors[0, :, 0, 0] = rare
    out = book(vectors)
    torch.testing.assert_close(out[0, :, :1, :1], book.expand(rare[:, None, None]))


def test_steps_are_told_by_waves_whose_periods_reach_ten_thousand_turns() -> None:
    """Attention is all you need, 3.5; cosines come first in Demucs."""
    cosines, sines = _wave_places(8, 3)[2].split(4)
    angles = 2 / 10000 ** (torch.arange(4) / 3)
    torch.testing.assert_close(cosines, angles.cos(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sines, angles.sin(), rtol=1e-6, atol=0)
    places = _picture_places(8, rows=2, steps=4).unflatten(0, (4, 2))
    turns = torch.stack([torch.tensor([3.0, 0.03]).sin(), torch.tensor([3.0, 0.03]).cos()], -1)
    torch.testing.assert_close(places[3, 1, :4], turns.flatten(), rtol=1e-6, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("steps", [LSTM_STEPS + 1, 2 * LSTM_STEPS + 50])
def test_a_long_signal_is_heard_in_pieces_of_which_the_middle_is_kept(steps: int) -> None:
    torch.manual_seed(0)
    layer, signal, half = LongShort(4), torch.randn(2, 4, steps), LSTM_STEPS // 2
    answer = layer(signal)
    assert answer.shape == signal.shape
    padded = nn.functional.pad(signal, (0, LSTM_STEPS))
    for start in range(0, steps, half):
        alone = layer(padded[..., start : start + LSTM_STEPS])
        first = 0 if start == 0 else half // 2
        kept = slice(start + first, min(start + half + half // 2, steps))
        expected = alone[..., first : first + kept.stop - kept.start]
        torch.testing.assert_close(answer[..., kept], expected)
