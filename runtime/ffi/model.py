"""Functions of models, adapters and tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from binhdan.runtime.errors import ModelNotFoundError
from binhdan.runtime.ffi.binding import Binding
from binhdan.runtime.ffi.types import ChatFamily
from binhdan.runtime.options import LoadOptions
from binhdan.runtime.results import ModelInfo


class ModelFunctions(Binding):
    def __init__(self, header: Path, binary: Path) -> None:
        super().__init__(header, binary)
        self._chat_families = self._names("binhdan_chat_family", "BINHDAN_CHAT_")
        self._poolings = self._names("binhdan_pooling", "BINHDAN_POOLING_")

    def open_model(
        self,
        path: str,
        options: LoadOptions,
        *,
        vocabulary_only: bool = False,
        progress: Callable[[float], object] | None = None,
    ) -> int:
        """`progress` is called with the loaded part, 0 to 1; its exception ends the loading and is raised."""
        failure: list[BaseException] = []

        def report(_: Any, done: float) -> int:
            try:
                assert progress is not None
                progress(done)
            except BaseException as error:
                failure.append(error)
                return 0
            return 1

        c_progress = self._ffi.NULL if progress is None else self._ffi.callback("binhdan_progress", report)
        c_isa = self._c_string(options.isa) if options.isa is not None else self._ffi.NULL
        c_options = self._struct(
            "binhdan_model_options",
            threads=options.threads or 0,
            isa=c_isa,
            flags=self._flags(
                MODEL_NO_MEMORY_CHECK=not options.memory_check, MODEL_VOCABULARY_ONLY=vocabulary_only
            ),
            progress=c_progress,
        )
        out = self._ffi.new("binhdan_model *")
        status = self._lib.binhdan_model_open(self._c_string(path), c_options, out)
        if failure:
            raise failure[0]
        self._check(status)
        return int(out[0])

    def pack_model(self, path: str, output: str | None = None) -> None:
        """Writes the pack file of a model; `output` None: the name that open_model looks for."""
        c_output = self._c_string(output) if output is not None else self._ffi.NULL
        self._check(self._lib.binhdan_model_pack(self._c_string(path), self._ffi.NULL, c_output))

    def close_model(self, model: int) -> None:
        self._check(self._lib.binhdan_model_close(model))

    def describe_model(self, model: int) -> ModelInfo:
        info = self._struct("binhdan_model_info")
        self._check(self._lib.binhdan_model_describe(model, info))
        return ModelInfo(
            architecture=self._string(info.architecture),
            isa=self._string(info.isa),
            parameters=info.parameters,
            file_bytes=info.file_bytes,
            weight_bytes=info.weight_bytes,
            bytes_per_token=info.bytes_per_token,
            kv_bytes_per_token=info.kv_bytes_per_token,
            context=info.context,
            vocabulary=info.vocabulary,
            embedding=info.embedding,
            layers=info.layers,
            heads=info.heads,
            kv_heads=info.kv_heads,
            head_dim=info.head_dim,
            bos=info.bos if info.bos >= 0 else None,
            eos=info.eos if info.eos >= 0 else None,
            causal=bool(info.causal),
            pooling=self._poolings[info.pooling],
            unknown=info.unknown if info.unknown >= 0 else None,
            padding=info.padding if info.padding >= 0 else None,
        )

    def chat_family(self, model: int) -> ChatFamily:
        """The built-in chat family that the library uses for this model."""
        info = self._struct("binhdan_model_info")
        self._check(self._lib.binhdan_model_describe(model, info))
        family: ChatFamily = self._chat_families[info.chat_family]
        return family

    def metadata(self, model: int, key: str) -> str | None:
        """A string of the file's metadata; None when the file has no string under `key`."""
        try:
            return self._read_text(self._lib.binhdan_model_metadata, model, self._c_string(key)).decode(
                "utf-8", "replace"
            )
        except ModelNotFoundError:
            return None

    def inspect(self, path: str) -> str:
        """A JSON description of any GGUF file."""
        return self._read_text(self._lib.binhdan_inspect, self._c_string(path), first=1 << 20).decode(
            "utf-8", "replace"
        )

    # ---- adapters ------------------------------------------------------------------------------------------

    def open_adapter(self, model: int, path: str) -> int:
        out = self._ffi.new("binhdan_adapter *")
        self._check(self._lib.binhdan_adapter_open(model, self._c_string(path), out))
        return int(out[0])

    def close_adapter(self, adapter: int) -> None:
        self._check(self._lib.binhdan_adapter_close(adapter))

    def describe_adapter(self, adapter: int) -> dict[str, int]:
        """The fields of binhdan_adapter_info."""
        info = self._struct("binhdan_adapter_info")
        self._check(self._lib.binhdan_adapter_describe(adapter, info))
        return self._fields(info)

    # ---- text ----------------------------------------------------------------------------------------------

    def tokenize(
        self, model: int, text: bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        flags = self._flags(ADD_SPECIAL=add_special, PARSE_SPECIAL=parse_special)
        return self._read_tokens(
            len(text) + 8, self._lib.binhdan_tokenize, model, self._ffi.from_buffer(text), len(text), flags
        )

    def tokenize_segments(self, model: int, segments: Sequence[tuple[bytes, bool]]) -> list[int]:
        """Each segment is (text, is markup); see binhdan_segment."""
        c_segments = self._ffi.new("binhdan_segment[]", len(segments))
        buffers = [self._ffi.from_buffer(text) for text, _ in segments]
        for c_segment, buffer, (text, markup) in zip(c_segments, buffers, segments, strict=True):
            c_segment.text, c_segment.size, c_segment.markup = buffer, len(text), markup
        capacity = sum(len(text) for text, _ in segments) + 8
        return self._read_tokens(
            capacity, self._lib.binhdan_tokenize_segments, model, c_segments, len(segments), 0
        )

    def tokenize_chat(
        self, model: int, messages: Sequence[tuple[str, bytes]], add_generation_prompt: bool
    ) -> list[int]:
        """Each message is (role, content). The library chooses the chat family."""
        c_messages = self._ffi.new("binhdan_message[]", len(messages))
        alive = [(self._c_string(role), self._ffi.from_buffer(content)) for role, content in messages]
        for c_message, (role, buffer), (_, content) in zip(c_messages, alive, messages, strict=True):
            c_message.role, c_message.content, c_message.size = role, buffer, len(content)
        capacity = sum(len(content) + 64 for _, content in messages) + 64
        return self._read_tokens(
            capacity,
            self._lib.binhdan_chat_tokenize,
            model,
            self._lib.BINHDAN_CHAT_AUTO,
            c_messages,
            len(messages),
            add_generation_prompt,
        )

    def tokenize_pair(self, model: int, query: bytes, document: bytes) -> list[int]:
        """A query and a document for a reranker."""
        c_query, c_document = self._ffi.from_buffer(query), self._ffi.from_buffer(document)
        return self._read_tokens(
            len(query) + len(document) + 64,
            self._lib.binhdan_tokenize_pair,
            model,
            c_query,
            len(query),
            c_document,
            len(document),
        )

    def detokenize(self, model: int, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """`special` includes the text of control tokens."""
        c_tokens = self._int32s(tokens)
        flags = self._flags(WRITE_SPECIAL=special)
        return self._read_text(
            self._lib.binhdan_detokenize, model, c_tokens, len(tokens), flags, first=16 * len(tokens) + 256
        )

    def token_roles(self, model: int, vocabulary: int) -> list[int]:
        """The role of each token of the vocabulary: 0 text, 1 ends an answer, 2 another control token."""
        role = self._lib.binhdan_token_role
        out = self._ffi.new("int32_t *")
        roles = []
        for token in range(vocabulary):
            self._check(role(model, token, out))
            roles.append(out[0])
        return roles
