"""Why classes of layers that Keras has are refused, and what can be done about it."""

from __future__ import annotations

import re

_INSTEAD = "save the part of the model before or after it as a model of its own"

_REASONS = (
    (r"Lambda", "it holds Python code, which is never run; write it with Keras's own layers"),
    (r"TensorFlowOpLayer", "a bare operation as TensorFlow 2.0 to 2.3 wrote it; a later one reads and saves it anew"),
    (r"(Depthwise|Separable|Atrous)*Conv(olution)?(LSTM)?\d?D?\w*|Deconvolution\w*", "it convolves"),
    (r".*Pool(ing)?\dD", "it pools"),
    (r"LocallyConnected\dD|ZeroPadding\dD|Cropping\dD|UpSampling[23]D", "it works on images or series"),
    (r"(CuDNN)?(LSTM|GRU)|SimpleRNN|RNN|Bidirectional|StackedRNNCells|\w+Cell", "it is recurrent"),
    (r"Embedding|\w+Lookup|Hash\w+|Discretization|CategoryEncoding|TextVectorization", "it looks values up in a table"),
    (r"\w*Attention", "attention is no map of one sample's features"),
    (r"Masking", "it sets entries to 0 and makes a mask that changes what the layers after it do"),
)
"""Class name, as a regular expression → why."""


def reason(class_name: str) -> str:
    """Why a class cannot be read, or nothing where it is not one of Keras's known here."""
    why = next((why for pattern, why in _REASONS if re.fullmatch(pattern, class_name)), None)
    return "" if why is None else f": {why}" if "; " in why else f": {why}; {_INSTEAD}"
