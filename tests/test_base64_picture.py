"""Pictures as text: what is base64 comes out byte for byte, and what isn't is told apart."""

from __future__ import annotations

import base64

import pytest

from service.base64_picture import decode_base64
from service.errors import InvalidBase64Error

PICTURE = bytes(range(256)) * 3 + b"\xfb\xff"
TEXT = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "prefix",
    ["", "data:image/jpeg;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/svg+xml;charset=utf-8;base64,",
     "data:image/jpeg;name=a.jpg;base64,"],
)  # fmt: skip
def test_base64_comes_out_byte_for_byte(prefix: str) -> None:
    assert decode_base64(prefix + TEXT) == PICTURE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("data:image/jpeg;base64,", "empty"),
        ("aGVs!!bG8=8=", "not base64"),
        ("ü", "not base64"),
        ("\ud800", "not base64"),
        ("aGV\0", "not base64"),
        (base64.urlsafe_b64encode(PICTURE).decode(), "URL-safe"),
        (base64.encodebytes(PICTURE).decode(), "line breaks"),
        (TEXT + "\n", "line breaks"),
        (TEXT.replace("+", " "), "%2B"),
        (TEXT.rstrip("="), "padding"),
        (TEXT[:-6], "cut short"),
        ("a", "cut short"),
        ("aGVsbG8=aGVs", "not base64"),
        ("====", "not base64"),
        ("aGVsbG8===", "not base64"),
        ("data:text/html;base64,aGk=", "image/"),
        ("data:;base64,aGk=", "image/"),
        ("data:image/png,aGk=", "must read"),
        ("data:image/png;base64", "must read"),
        ("data:", "must read"),
        ("https://example.org/face.jpg", "not base64"),
    ],
)
def test_what_is_no_base64_is_told_apart(text: str, said: str) -> None:
    with pytest.raises(InvalidBase64Error) as refused:
        decode_base64(text)
    assert said in refused.value.message
    assert len(refused.value.message) < 200


def test_a_prefix_that_never_ends_takes_no_longer_than_reading_it() -> None:
    for hostile in ("data:" + ";" * 1_000_000, "data:image/png" + ";a=b" * 250_000, "data:" + "a" * 1_000_000):
        with pytest.raises(InvalidBase64Error):
            decode_base64(hostile)
