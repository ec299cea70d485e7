#!/usr/bin/env python3
"""Write utf8_replace.tsv: byte strings and what Python's bytes.decode("utf-8", "replace") makes of them.

One case a line: input in hex, a tab, the decoded text as UTF-8 in hex. Python replaces each maximal
invalid subpart by one U+FFFD, as Unicode 15 section 3.9 recommends. Seeded: the output is the same
every time.

    python3 tests/data/make_utf8_replace.py > tests/data/utf8_replace.tsv
"""
import random

rng = random.Random(20261123)

cases = [
    b"", b"plain", "é€😀".encode(), b"\x00",
    # Unicode 15, tables 3-8 to 3-11: the standard's own examples
    b"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82A", b"\xed\xa0\x80\xed\xbf\xbf\xed\xafA",
    b"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbfA",
    b"a\xf1\x80\x80\xe1\x80\xc2b\x80c\x80\xbfd",
    # cut off at every byte
    b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xe2", b"\xe2\x82", b"\xc3",
    # the byte that breaks a code point begins another
    b"\xe2\x82\xe2\x82\xac", b"\xf0\x9f\xf0\x9f\x98\x80", b"\xc3\xc3\xa9", b"\xe2\xc3\xa9",
]
# borders of every range of table 3-7
leads = [0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1,
         0xF3, 0xF4, 0xF5, 0xFF]
seconds = [0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0]
for lead in leads:
    for second in seconds:
        cases.append(bytes([lead, second]))
        cases.append(bytes([lead, second, 0x80]))
        cases.append(bytes([lead, second, 0xBF, 0x80, 0x41]))
for _ in range(600):
    pool = rng.choice([range(256), leads + seconds, [0x41, 0x80, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98]])
    cases.append(bytes(rng.choice(list(pool)) for _ in range(rng.randint(1, 16))))

for case in cases:
    print(case.hex(), case.decode("utf-8", "replace").encode().hex(), sep="\t")
