"""AC-3 and E-AC-3 frames: how long each is (ETSI TS 102 366). FFmpeg joins what follows to it."""

_SYNC = b"\x0b\x77"
_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_RATES = (48000, 44100, 32000)  # Hz


def _measure_frame(head: bytes) -> int:
    """Give the bytes of the frame that begins so; 0 if none does."""
    if len(head) < 6 or head[:2] != _SYNC:
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code // 2 >= len(_KBITS):
        return 0
    words = _KBITS[code // 2] * 96000 // _RATES[rate]
    return 2 * (words + (code % 2 if rate == 1 else 0))


def divide_packet(packet: bytes) -> tuple[bytes, bytes]:
    """Divide a packet in its frame, or frames of one moment, and what is none."""
    size = _measure_frame(packet[:6]) or len(packet)
    if packet[size : size + 2] == _SYNC:  # with further channels
        size = len(packet)
    return packet[:size], packet[size:]
