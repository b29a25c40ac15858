// Private to the amx table: what its files give to table_amx.cpp, and the tile unit as they use it.
//
// A tile register is up to 16 rows of 64 bytes. TDPBF16PS adds to C (rows x 16 float32) the product of A
// (rows x 32 bf16) and B (32 x 16 bf16); row k of B's register is rows 2 k and 2 k + 1 of B, a pair for each
// column. So panels become B lane by lane: weight row = column of B = 32-bit lane.
//
// These files are compiled with -mamx-bf16, -mavx512f and more, so nothing in them may leave a symbol that
// the linker could pick for another file: helpers are `static` and always inlined, and nothing of the
// standard library that is a template or inline is called.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::amx {

// Types that have panels, bf16 activations.
template <DType type>
void gemm(const MatmulArgs& args);
// Types that have panels, q8 activations: the bits of avx512vnni.
template <DType type>
void gemv(const MatmulArgs& args);
template <DType type>
size_t gemv_scratch_size(int64_t cols);
// Of gemm, of gemv and of avx512vnni's kernels, which gemv calls.
template <DType type>
size_t scratch_size(int64_t rows, int64_t cols, int64_t m);

int64_t peak_bf16(int64_t rounds);
void quantize_bf16(void* dst, const float* x, int64_t n);
void store_key(void* page, int64_t head_dim, int64_t token, const float* k);
void store_value(void* page, int64_t head_dim, int64_t token, const float* v);
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);
size_t attention_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
bool supported(const CpuFeatures& cpu);

}  // namespace binhdan::amx
