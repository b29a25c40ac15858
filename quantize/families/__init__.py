"""The families of checkpoints that can be converted. One module per group; each family is a table of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.families.bert import BERT, BERT_RANK, XLM_ROBERTA, XLM_ROBERTA_RANK
from binhdan.quantize.families.exaone4 import EXAONE4
from binhdan.quantize.families.family import Family
from binhdan.quantize.families.gemma import GEMMA, GEMMA2, GEMMA3, GEMMA4, GEMMA_EMBEDDING
from binhdan.quantize.families.lfm2 import LFM2, LFM2MOE
from binhdan.quantize.families.llama import GRANITE, LLAMA, MISTRAL3, SMOLLM3
from binhdan.quantize.families.mpt import MPT
from binhdan.quantize.families.phi3 import PHI3
from binhdan.quantize.families.qwen import QWEN2, QWEN3, QWEN3MOE, QWEN35

FAMILIES: Final = (
    LLAMA,
    MISTRAL3,
    GRANITE,
    SMOLLM3,
    QWEN2,
    QWEN3,
    QWEN3MOE,
    QWEN35,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GEMMA_EMBEDDING,
    GEMMA4,
    LFM2,
    LFM2MOE,
    PHI3,
    EXAONE4,
    MPT,
    BERT,
    BERT_RANK,
    XLM_ROBERTA,
    XLM_ROBERTA_RANK,
)


def find_family(config: Mapping[str, Any]) -> Family:
    """Returns the family of a config.json by its "architectures". Raises CheckpointError if there is none."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    for family in FAMILIES:
        if name in family.classes:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.classes)
    raise CheckpointError(f"config.json: architecture {name!r} is not supported; expected one of {known}")
