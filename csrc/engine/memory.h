// What a context takes, and the longest one that fits.
#pragma once
#include "engine/engine.h"
#include "model/model.h"

namespace binhdan::engine {

// Options whose context fits in max_kv_bytes: if one full sequence does not fit, the context is reduced to whole pages.
// Throws Error: invalid_argument if one page does not fit; out_of_memory if available_memory is too small for the context.
EngineOptions within_memory(EngineOptions options, const model::Model& model,
                            const model::StateLayout& layout);

}  // namespace binhdan::engine
