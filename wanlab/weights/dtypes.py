"""Number formats: torch's types by the names that files have for them, and by those that settings have."""

from __future__ import annotations

from collections.abc import Mapping

import torch

# By safetensors' codes (docs.rs/safetensors, Dtype), and the other way round.
STORED: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
CODES: Mapping[torch.dtype, str] = {dtype: code for code, dtype in STORED.items()}

# By the values of base_precision and vae_precision.
PRECISIONS: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp16_fast": torch.float16,
}
