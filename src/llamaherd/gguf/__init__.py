"""Reading GGUF files that come from strangers.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only this package knows
it; ``header`` writes what comes before the tensors' data.
"""

from llamaherd.gguf.describe import (
    file_type_name,
    human_number,
    metadata_info,
    model_info,
    tensor_list,
)
from llamaherd.gguf.reader import GGUF, Metadata
from llamaherd.gguf.tensors import TENSOR_TYPES, TensorInfo, TensorType
from llamaherd.gguf.values import Array, Value, ValueType

__all__ = [
    "GGUF",
    "TENSOR_TYPES",
    "Array",
    "Metadata",
    "TensorInfo",
    "TensorType",
    "Value",
    "ValueType",
    "file_type_name",
    "human_number",
    "metadata_info",
    "model_info",
    "tensor_list",
]
