"""CRC-32C, the checksum of TensorFlow's checkpoints, in NumPy: no byte is looked at alone.

    content ── rows of as many bytes ── each row's sum, all at once ── joined by twos ──▶ the sum

A sum is linear in the bits that it is of. That of two rows is the sum of the second, and that of
the first as it is after as many zeros as the second is long. What zeros make of a sum is a matrix
of bits; its square is what twice as many make of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

POLYNOMIAL = np.uint32(0x82F63B78)  # Castagnoli's, its lowest bit first
START = bytes.fromhex("54641f64")  # what makes all ones, by which sums begin, of no bits
MOST_ROWS = 4096  # a power of two
COLUMNS = 64  # about as many bytes a row has, unless there are more than so many rows
BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)

Sums = npt.NDArray[np.uint32]


def find_sum(content: bytes) -> int:
    """Return the CRC-32C of bytes."""
    heard = np.frombuffer(START + content, np.uint8)
    count = min(MOST_ROWS, 1 << (len(heard) // COLUMNS).bit_length())
    rows = np.zeros((count, -(-len(heard) // count)), np.uint8)
    rows.reshape(-1)[-len(heard) :] = heard  # zeros before the first bit change nothing
    sums, after_zeros = np.zeros(count, np.uint32), BITS
    table = _make_table()
    for column in np.ascontiguousarray(rows.T):
        sums = _shift(sums ^ column, table)
        after_zeros = _shift(after_zeros, table)
    while len(sums) > 1:
        sums = _apply(after_zeros, sums[::2]) ^ sums[1::2]
        after_zeros = _apply(after_zeros, after_zeros)
    return int(sums[0]) ^ 0xFFFFFFFF


def mask_sum(content: bytes) -> bytes:
    """Return the CRC-32C of bytes as TensorFlow stores it: turned, and moved by a constant."""
    total = find_sum(content)
    moved = (total >> 15 | total << 17) + 0xA282EAD8
    return (moved & 0xFFFFFFFF).to_bytes(4, "little")


def _make_table() -> Sums:
    """Return what eight zeros make of each sum below 256."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ (table & 1) * POLYNOMIAL
    return table


def _shift(sums: Sums, table: Sums) -> Sums:
    """Return what eight zeros make of sums."""
    return np.asarray(table[sums & 255] ^ sums >> 8, np.uint32)


def _apply(matrix: Sums, sums: Sums) -> Sums:
    """Multiply a matrix, as what becomes of each bit, by sums."""
    images = np.where(sums[:, None] & BITS, matrix, 0)
    return np.asarray(np.bitwise_xor.reduce(images, axis=1), np.uint32)
