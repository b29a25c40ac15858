// Estimates of memory before it is allocated.
#pragma once
#include <cstdint>

#include "model/config.h"

namespace binhdan::model {

// Bytes of the buffers of a forward pass over `rows` rows, with the logits of `outputs` of them. Within a
// quarter of what reserve_buffers() allocates.
uint64_t buffer_bytes(const Config& config, int64_t rows, int64_t outputs, int threads);

}  // namespace binhdan::model
