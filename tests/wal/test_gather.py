"""Text checks of ``wal.gather``."""

from __future__ import annotations

import random

import pytest

from meshlab.wal import gather

_PARTS = [b"a", b"plain text", "é".encode(), "€".encode(), "\U0001f600".encode(), b"x" * 9]


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _texts(seed: int) -> list[bytes]:
    """Short texts, most of them with one byte changed or lost."""
    source, texts = random.Random(seed), []
    for _ in range(3000):
        text = bytearray(b"".join(source.choice(_PARTS) for _ in range(source.randrange(40))))
        if text and source.random() < 0.7:
            at = source.randrange(len(text))
            if source.random() < 0.5:
                del text[at]
            else:
                text[at] = source.choice(b"\x80\xc3\xe2\xed\xff\x61")
        texts.append(bytes(text))
    return texts


@pytest.mark.parametrize("step", [1, 3, gather._STEP])
def test_long_texts_are_utf8_exactly_when_python_decodes_them(monkeypatch, step):
    monkeypatch.setattr(gather, "_MANY", 0)
    monkeypatch.setattr(gather, "_STEP", step)
    texts = _texts(seed=20250707)
    verdicts = [gather.is_utf8(memoryview(text)) for text in texts]
    assert verdicts == [_decodes(text) for text in texts]
    assert 500 < sum(verdicts) < 2500


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_character_cut_at_the_end_of_a_long_text_is_no_utf8(cut):
    text = b"x" * 10_000 + "\U0001f600".encode()
    assert gather.is_utf8(memoryview(text))
    assert not gather.is_utf8(memoryview(text[:-cut]))
