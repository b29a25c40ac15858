"""The parts of the ABI that compiled callers depend on: values of enums and the order of struct fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from api.abi import ffi, lib

import binhdan

PINNED = {
    "BINHDAN_OK": 0,
    "BINHDAN_INVALID_ARGUMENT": 1,
    "BINHDAN_INVALID_HANDLE": 2,
    "BINHDAN_NOT_FOUND": 3,
    "BINHDAN_IO": 4,
    "BINHDAN_BAD_FORMAT": 5,
    "BINHDAN_UNSUPPORTED": 6,
    "BINHDAN_OUT_OF_MEMORY": 7,
    "BINHDAN_TOO_LARGE": 8,
    "BINHDAN_BUSY": 9,
    "BINHDAN_CLOSED": 10,
    "BINHDAN_INTERNAL": 11,
    "BINHDAN_TOO_SMALL": 12,
    "BINHDAN_ADD_SPECIAL": 1,
    "BINHDAN_PARSE_SPECIAL": 2,
    "BINHDAN_WRITE_SPECIAL": 2,
    "BINHDAN_CHAT_AUTO": -1,
    "BINHDAN_CHAT_PLAIN": 0,
    "BINHDAN_CHAT_CHATML": 1,
    "BINHDAN_CHAT_LLAMA2": 2,
    "BINHDAN_CHAT_LLAMA3": 3,
    "BINHDAN_MANUAL_STEP": 1,
    "BINHDAN_DETERMINISTIC": 2,
    "BINHDAN_NO_PREFIX_CACHE": 4,
    "BINHDAN_NO_MEMORY_CHECK": 8,
    "BINHDAN_MODEL_NO_MEMORY_CHECK": 1,
    "BINHDAN_MODEL_NO_PACK_FILE": 2,
    "BINHDAN_MODEL_VOCABULARY_ONLY": 4,
    "BINHDAN_KV_F16": 0,
    "BINHDAN_KV_Q8_0": 1,
    "BINHDAN_GENERATE": 0,
    "BINHDAN_EMBED": 1,
    "BINHDAN_SCORE": 2,
    "BINHDAN_LOGITS": 3,
    "BINHDAN_IGNORE_EOS": 1,
    "BINHDAN_USE_MASK": 2,
    "BINHDAN_SKIP_PREFIX_CACHE": 4,
    "BINHDAN_NO_NORMALIZE": 8,
    "BINHDAN_POOLING_AUTO": 0,
    "BINHDAN_POOLING_MEAN": 1,
    "BINHDAN_POOLING_CLS": 2,
    "BINHDAN_POOLING_LAST": 3,
    "BINHDAN_POOLING_RANK": 4,
    "BINHDAN_EVENT_TOKEN": 1,
    "BINHDAN_EVENT_FINISHED": 2,
    "BINHDAN_EVENT_EMBEDDING": 3,
    "BINHDAN_EVENT_SCORES": 4,
    "BINHDAN_EVENT_LOGITS": 5,
    "BINHDAN_FINISH_STOP": 1,
    "BINHDAN_FINISH_LENGTH": 2,
    "BINHDAN_FINISH_CONTEXT": 3,
    "BINHDAN_FINISH_CANCELLED": 4,
    "BINHDAN_FINISH_ERROR": 5,
    "BINHDAN_FINISH_REPETITION": 6,
    "BINHDAN_STYLE_KEEP": 0,
    "BINHDAN_STYLE_NEW": 1,
    "BINHDAN_STYLE_OLD": 2,
    "BINHDAN_FORMAT_TEXT": 0,
    "BINHDAN_FORMAT_HTML": 1,
    "BINHDAN_FORMAT_MARKDOWN": 2,
    "BINHDAN_FORMAT_SRT": 3,
    "BINHDAN_FORMAT_CSV": 4,
    "BINHDAN_FORMAT_JSON": 5,
    "BINHDAN_FORMAT_PO": 6,
    "BINHDAN_FORMAT_CODE": 7,
}

# Later versions may only append fields: these stay first, in this order.
FIRST_FIELDS = {
    "binhdan_model_options": "struct_size threads isa flags progress progress_user",
    "binhdan_model_info": "struct_size architecture isa parameters file_bytes weight_bytes bytes_per_token "
    "kv_bytes_per_token context vocabulary embedding layers heads kv_heads head_dim bos eos chat_family "
    "pooling causal unknown padding",
    "binhdan_engine_options": "struct_size flags threads context max_sequences max_waiting prefill_chunk "
    "max_decode_stall_ms max_kv_bytes cache_folder max_cache_folder_bytes kv_type draft",
    "binhdan_engine_info": "struct_size threads context max_sequences running waiting kv_bytes max_kv_bytes "
    "cache_bytes",
    "binhdan_request": "struct_size kind flags max_tokens tokens n_tokens temperature top_k top_p min_p "
    "repetition_penalty presence_penalty frequency_penalty top_logprobs seed logit_bias n_logit_bias stop "
    "n_stop cache_salt pooling dimensions loop_guard max_draft_tokens score_from adapter "
    "stop_tokens n_stop_tokens min_tokens",
    "binhdan_event": "struct_size kind request token logprob text text_size top n_top values n_values finish "
    "status prompt_tokens answer_tokens queue_ns prefill_ns decode_ns cached_tokens drafted_tokens "
    "accepted_tokens stop_text",
    "binhdan_adapter_info": "struct_size rank parameters bytes cache_salt",
    "binhdan_restore_options": "struct_size style format min_confidence",
    # Structs without struct_size can never grow.
    "binhdan_segment": "text size markup",
    "binhdan_message": "role content size",
    "binhdan_token_value": "token value",
    "binhdan_text": "text size",
}


def test_enum_values() -> None:
    assert {name: getattr(lib, name) for name in PINNED} == PINNED


def test_every_enum_value_is_pinned_here() -> None:
    header = next(path for f in binhdan.__path__ if (path := Path(f, "include/binhdan.h")).exists())
    found = re.findall(r"^\s*(BINHDAN_\w+) =\s+-?\d+", header.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(found) == sorted(PINNED)


@pytest.mark.parametrize("name", FIRST_FIELDS)
def test_struct_fields(name: str) -> None:
    fields = [field for field, _ in ffi.typeof(name).fields]
    expected = FIRST_FIELDS[name].split()
    assert fields[: len(expected)] == expected
    if expected[0] != "struct_size":
        assert fields == expected


def test_status_names() -> None:
    for name in list(PINNED)[:13]:
        assert ffi.string(lib.binhdan_status_name(PINNED[name])).decode() == name.removeprefix("BINHDAN_")
    for unknown in [-1, 13, 2**31 - 1, -(2**31)]:
        assert ffi.string(lib.binhdan_status_name(unknown)) == b"UNKNOWN"


def test_version_equals_the_package_version() -> None:
    assert ffi.string(lib.binhdan_version()).decode() == binhdan.__version__
