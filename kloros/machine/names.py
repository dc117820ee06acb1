"""Names of files as text that can be told. To the kernel they are bytes, and not always UTF-8. Pure."""

from __future__ import annotations


def readable(name: str) -> str:
    r"""The name with each byte that is no UTF-8 written as `\xdf`: for telling, never for finding the file again."""
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair that stands for no byte
        raw = name.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")
