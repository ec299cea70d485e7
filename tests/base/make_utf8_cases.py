#!/usr/bin/env python3
"""Writes utf8_cases.txt: what Python's UTF-8 codec says about byte sequences, for test_utf8.c.

A block is a line "<length> <alphabet in hex>" and lines of runs "<count>x<code>" that cover all
sequences of that length over that alphabet, the last byte changing fastest, up to an empty line.
code = held * 2 + valid: held is how many bytes at the end are the beginning of some character's
encoding and not all of it, valid whether the strict decoder takes the whole. (The incremental
decoder is not asked for `held`: for its surrogatepass handler it also keeps back ED A0, which no
character begins with.)
"""
import itertools
import pathlib

THREE = bytes([0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
               0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF])
FOUR = bytes([0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xE0, 0xED, 0xEF, 0xF0, 0xF1,
              0xF4, 0xF5])
BLOCKS = [(1, bytes(range(256))), (2, bytes(range(256))), (3, THREE), (4, FOUR)]

CHARACTERS = [chr(point).encode() for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF]
BEGINNINGS = {character[:n] for character in CHARACTERS for n in range(1, len(character))}


def code(data):
    held = max([n for n in (1, 2, 3) if data[-n:] in BEGINNINGS and n <= len(data)], default=0)
    try:
        data.decode("utf-8")
        return held * 2 + 1
    except UnicodeDecodeError:
        return held * 2


lines = []
for length, alphabet in BLOCKS:
    lines.append(f"{length} {alphabet.hex()}")
    codes = (code(bytes(item)) for item in itertools.product(alphabet, repeat=length))
    runs = [f"{len(list(group))}x{value}" for value, group in itertools.groupby(codes)]
    lines += [" ".join(runs[i:i + 16]) for i in range(0, len(runs), 16)] + [""]
pathlib.Path(__file__).with_name("utf8_cases.txt").write_text("\n".join(lines) + "\n")
