"""The formats that stems are written in, and what each of them can hold."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from splitter.errors import AudioError

CLIPS = ("clamp", "float", "rescale")
# a file called so is a song, maybe a broken one, which is an error to report
SUFFIXES = frozenset(
    {".aac", ".ac3", ".aif", ".aiff", ".alac", ".amr", ".ape", ".au", ".caf", ".dsf", ".flac"}
    | {".m4a", ".m4b", ".mka", ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".ra", ".spx"}
    | {".tta", ".w64", ".wav", ".wma", ".wv"}
)


@dataclass(frozen=True)
class OutputFormat:
    """What stem files are to be."""

    container: str = "wav"  # one of CONTAINERS
    bits: int | None = None  # 16, 24 or 32 (float); None: as deep as the song
    bitrate: int | None = None  # bit/s, of lossy formats; None: a good one for the channels
    # Beyond full scale: clamp cuts off; float writes 32-bit floats where something would be cut
    # off; rescale makes all stems quieter by one gain.
    clip: str = "clamp"
    dither: int = 0  # TPDF noise where bits are reduced: 0 none, 1 on, -1 the same noise negated
    rate: int | None = None  # Hz; None: the song's own, or the next one that the container knows
    mono: bool = False  # the mean of the channels

    @property
    def converts(self) -> bool:
        """Tell whether samples are others than the song's."""
        return self.mono or self.rate is not None


@dataclass(frozen=True)
class Container:
    """What a format is made of and can hold."""

    muxer: str  # FFmpeg's names; none where libsndfile writes
    codecs: Mapping[int, str]  # by bits; of lossy formats by 0
    channels: int = 8  # at most
    rates: tuple[int, ...] = ()  # Hz; () is any
    bitrate: int = 0  # bit/s for each channel, of lossy formats

    @property
    def lossy(self) -> bool:
        """Tell whether samples are given back only nearly."""
        return 0 in self.codecs


MPEG_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_PCM = {16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_f32le"}

CONTAINERS: Mapping[str, Container] = {
    "wav": Container("wav", _PCM, channels=64),
    "raw": Container("", _PCM, channels=64),
    "flac": Container("flac", {16: "flac", 24: "flac"}),
    "mp3": Container("mp3", {0: "libmp3lame"}, 2, MPEG_RATES, 128_000),
    "ogg": Container("", {0: "vorbis"}, 8, (*MPEG_RATES, 88200, 96000, 192000), 96_000),
    "opus": Container("ogg", {0: "libopus"}, 8, (48000,), 80_000),
    "m4a": Container("ipod", {0: "aac"}, 8, (*MPEG_RATES, 64000, 88200, 96000), 128_000),
}


def fit_format(wanted: OutputFormat, rate: int, channels: int, bits: int) -> OutputFormat:
    """Settle what was left open, for a song of this rate (Hz), channel count and depth.

    `bits` and `bitrate` become numbers where the format has them, and `dither` stays only where
    bits are reduced. Raises AudioError for what cannot be, before anything has been computed.
    """
    container = find_container(wanted.container)
    rate, channels = find_shape(wanted, rate, channels)
    _check(wanted, container, rate, channels)
    if container.lossy:
        bitrate = _fit_bitrate(wanted, rate, channels)
        return replace(wanted, bits=32, bitrate=bitrate, dither=0)
    deepest = max(container.codecs)
    depth = wanted.bits or min(bits, deepest)
    reduces = depth < bits or wanted.converts
    return replace(wanted, bits=depth, dither=wanted.dither if reduces else 0)


def fit_pipe(settled: OutputFormat) -> OutputFormat:
    """Settle a format for a pipe, where nothing can be changed afterwards."""
    container = find_container(settled.container)
    if settled.clip == "rescale":
        raise AudioError("--clip rescale must know the whole song first; for a pipe give another")
    if settled.clip == "float" and not container.lossy:
        return replace(settled, bits=32, dither=0)
    return settled


def find_container(name: str) -> Container:
    """Look a container up by its name."""
    if name not in CONTAINERS:
        raise AudioError(f"{name}: not a format that can be written; choose {_list(CONTAINERS)}")
    return CONTAINERS[name]


def _check(wanted: OutputFormat, container: Container, rate: int, channels: int) -> None:
    name = wanted.container
    if container.rates and rate not in container.rates:
        raise AudioError(f"{name}: cannot hold {rate} Hz; choose {_list(container.rates)}")
    if channels > container.channels:
        most = container.channels
        raise AudioError(f"{name}: holds {most} channels, the song has {channels}; choose wav")
    if wanted.bits is not None and wanted.bits not in container.codecs:
        if container.lossy:
            raise AudioError(f"{name}: has no bit depth; choose a bitrate instead")
        raise AudioError(
            f"{name}: cannot hold {wanted.bits} bits; choose {_list(container.codecs)}"
        )
    if wanted.bitrate is not None and not container.lossy:
        raise AudioError(f"{name}: has no bitrate; choose mp3, ogg, opus or m4a for one")
    if wanted.clip not in CLIPS:
        raise AudioError(f"{wanted.clip}: not a way to handle clipping; choose {_list(CLIPS)}")
    if wanted.clip == "float" and not container.lossy and 32 not in container.codecs:
        raise AudioError(f"{name}: cannot hold floats, which --clip float needs; choose wav")


def find_shape(wanted: OutputFormat, rate: int, channels: int) -> tuple[int, int]:
    """Give the sample rate and the channels of stems of a song with these.

    The rate is the song's own, or the next one that the container knows.
    """
    rates, rate = find_container(wanted.container).rates, wanted.rate or rate
    if rates and rate not in rates and not wanted.rate:
        rate = min((known for known in rates if known > rate), default=max(rates))
    return rate, 1 if wanted.mono else channels


def find_bitrates(container: str, rate: int, channels: int) -> tuple[int, int]:
    """Give the lowest and the highest bitrate of a lossy format, in bit/s."""
    if container == "mp3":
        # below, there is no room for the tag that states delay and padding
        return (
            (64_000, 320_000 if rate >= 32000 else 160_000) if rate >= 16000 else (32_000, 64_000)
        )
    lowest, highest = {"ogg": (32_000, 250_000), "opus": (6_000, 256_000)}.get(
        container, (8_000, 6 * rate)
    )
    return lowest * channels, highest * channels


def _fit_bitrate(wanted: OutputFormat, rate: int, channels: int) -> int:
    lowest, highest = find_bitrates(wanted.container, rate, channels)
    if wanted.bitrate is None:
        return min(max(find_container(wanted.container).bitrate * channels, lowest), highest)
    if not lowest <= wanted.bitrate <= highest:
        span = f"{lowest // 1000} to {highest // 1000} kbit/s"
        raise AudioError(f"{wanted.container}: holds {span} at {rate} Hz; choose one of them")
    return wanted.bitrate


def _list(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
