"""How vocabularies spell bytes: GPT-2's byte-level alphabet, sentencepiece's ▁ and <0xNN>."""

from __future__ import annotations

import functools
import re

SPACE_MARK = "▁"
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@functools.cache
def byte_level_alphabet() -> dict[str, int]:
    """Returns the byte of each character of the byte-level alphabet (Radford et al. 2019).

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, are the
    characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def byte_level_bytes(piece: str) -> bytes:
    """Returns the bytes of a byte-level piece; one outside the alphabet is its own UTF-8."""
    alphabet = byte_level_alphabet()
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError:
        return piece.encode("utf-8")


def sentencepiece_bytes(piece: str, *, byte_pieces: bool = True) -> bytes:
    """Returns the bytes of a sentencepiece-style piece; `byte_pieces` reads <0xNN> as that byte."""
    match = _BYTE_PIECE.fullmatch(piece) if byte_pieces else None
    if match:
        return bytes([int(match[1], 16)])
    return piece.replace(SPACE_MARK, " ").encode("utf-8")
