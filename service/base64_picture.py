"""Pictures that come as text: base64, plain or as a data URL."""

from __future__ import annotations

import binascii
import re

from service.errors import InvalidBase64Error

DATA_URL = re.compile(r"data:(?P<type>[^,;]*)(?P<parameters>(?:;[^,;]*)*),", re.IGNORECASE)
STANDARD = "base64 is letters, digits, + and /, padded with = to a multiple of four (RFC 4648, section 4)"


def decode_base64(text: str) -> bytes:
    """The bytes of `text`, with or without a `data:image/...;base64,` before it.

    Nothing is skipped or guessed: a decoder that drops what it does not know turns a damaged picture into another one.
    How long the text may be is the body limit's affair; its bytes are three quarters of it.

    Raises:
        InvalidBase64Error: it is empty, not base64, or a data URL of something that is no picture.
    """
    body = _after_prefix(text)
    if not body:
        raise InvalidBase64Error("The base64 text is empty. Send the picture's bytes in base64.")
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except ValueError as error:  # binascii.Error is one, and so is a letter that is not ASCII
        raise InvalidBase64Error(_what_is_wrong(body)) from error


def _after_prefix(text: str) -> str:
    if text[:5].lower() != "data:":
        return text
    prefix = DATA_URL.match(text)
    if prefix is None or not prefix["parameters"].lower().endswith(";base64"):
        raise InvalidBase64Error("A data URL must read `data:image/jpeg;base64,` followed by the picture.")
    if not prefix["type"].lower().startswith("image/"):
        raise InvalidBase64Error("The data URL does not hold a picture: its type must begin with `image/`.")
    return text[prefix.end() :]


def _what_is_wrong(body: str) -> str:
    if re.search(r"[-_]", body):
        return f"This is URL-safe base64, with - and _. Send standard base64: {STANDARD}."
    if re.search(r"[\r\n]", body):
        return "The base64 text has line breaks. Send it in one line, as `base64 -w0` writes it."
    if " " in body:
        return "The base64 text has spaces. In a URL-encoded form every + must be sent as %2B."
    if re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", body):
        return f"The base64 text is cut short or its padding is wrong: {STANDARD}."
    return f"The text is not base64: {STANDARD}."
