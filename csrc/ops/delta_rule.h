// The gated delta rule (kernels.h, DeltaRuleArgs) over the rows of a batch and the heads of a layer.
//
// Rows of the class decode are computed one after the other. Rows of the class prefill are computed in chunks
// that end where the position is a multiple of kDeltaChunk. So the bits of a prompt do not depend on how it
// is cut into runs, as long as every run but the last ends at a multiple of kDeltaChunk (every multiple of
// kKvPageTokens is one).
#pragma once
#include <cstdint>
#include <span>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace binhdan::ops {

// Consecutive rows of one sequence in one numeric class.
struct DeltaRun {
  int64_t row, rows;  // in the batch
  int64_t position;   // of the first row in the sequence
  NumericClass numeric_class;
  float* state;                 // (heads, key_dim, value_dim), updated in place
  float* checkpoint = nullptr;  // if set: gets the state after `checkpoint_rows` rows, the end of a page
  int64_t checkpoint_rows = 0;
};

// Value head h uses key head h % key_heads.
struct DeltaShape {
  int64_t heads, key_heads, key_dim, value_dim;
};

// Pointers to row 0 of the batch. A row has its heads one after the other: head h is at h key_dim (q and k),
// at h value_dim (v and out) or at h (decay and beta). Strides are floats between rows.
struct DeltaRows {
  const float *q, *k;
  int64_t qk_stride;
  const float* v;
  int64_t v_stride;
  const float *decay, *beta;
  int64_t gate_stride;
  float* out;
  int64_t out_stride;
};

// Every rank calls it with the same arguments and a scratch buffer of its own. It has no barrier, and it uses
// Team::distribute: the caller must pass a barrier before it, because it reads rows that other ranks have
// written, and after it, before the first read of `out`.
void delta_rule(Team& team, const KernelTable& table, std::span<const DeltaRun> runs, const DeltaShape& shape,
                const DeltaRows& rows, Buffer& scratch);

}  // namespace binhdan::ops
