"""Everything refgrad refuses, and why it may: one class per kind of reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RefgradError(Exception):
    """The root of all of refgrad's errors."""


class FormatError(RefgradError):
    """The bytes are not a model: not there, not of a known kind, empty, cut off or damaged."""


class UnsupportedError(RefgradError):
    """The model holds a layer, key, activation or type that refgrad will not guess at."""


class MismatchError(RefgradError):
    """The weights and the config (or the arrays given for them) do not fit each other."""


class LimitError(RefgradError):
    """Reading on would cost more memory than the file's honest content can need."""


class InputError(RefgradError, ValueError):
    """An array or an option given to a function is not what it takes."""


class KinkError(RefgradError):
    """`kink="raise"` met a unit that sits exactly on a kink."""


class VerificationError(RefgradError):
    """A saved model does not reproduce what it recorded about itself."""


class MissingExtraError(RefgradError, ImportError):
    """An optional package is needed and not installed; the message names the extra that brings it."""


class RefgradWarning(UserWarning):
    """Something is unusual and was let pass, such as NaN among the weights."""


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Put the name of a file or layer before the message of any refusal raised inside."""
    try:
        yield
    except RefgradError as error:
        msg = f"{what}: {error}"
        raise type(error)(msg) from None


def printable(text: str) -> str:
    """Text of a file in one line of letters that can be seen: all others as Python writes them."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


@contextmanager
def tidy() -> Iterator[None]:
    """Keep any refusal raised inside to a length that can be read, without a control character of the file's."""
    try:
        yield
    except RefgradError as error:
        said = "\n".join(map(printable, str(error).split("\n")))
        if said == str(error) and len(said) <= _LONGEST:
            raise
        raise type(error)(said if len(said) <= _LONGEST else f"{said[:1000]} … {said[-500:]}") from None


_LONGEST = 1500
"""The most letters of a message: names in a file may be as long as the file."""
