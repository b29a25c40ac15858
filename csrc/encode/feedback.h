// Encodes a matrix with feedback of errors: the error of each column changes the later columns of its row, so
// that the outputs of the matrix change less than with each weight rounded on its own.
//
// The error is sum over rows of (x - x')^T H (x - x'), with H = mean of a a^T over the activations a. With the
// factors H = U D U^T, where U is unit upper triangular and D is diagonal, it is
//   sum over columns k of D_k (y_k - x'_k)^2,  y_k = x_k + sum over j < k of U_jk (x_j - x'_j),
// and column after column is rounded to the value nearest to y_k. Sources: GPTQ (Frantar et al. 2022,
// arXiv:2210.17323); this form is LDLQ (Chee et al. 2023, arXiv:2307.13304). The scales of a block are chosen
// for y, with the importance D, when the block is reached.
#pragma once
#include <cstdint>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace binhdan::encode {

// Whether encode_feedback can write a type.
bool can_feed_back(DType type);

// src: (rows, cols), cols a multiple of the type's block. factor: (cols, cols), the upper triangular R with
// H = R R^T and a positive diagonal; what is below the diagonal is not read. dst as in encode_rows. The bytes do
// not depend on the number of threads or the kernel table. Throws Error(unsupported) if can_feed_back is false,
// and Error(invalid_argument) if the diagonal is not positive.
void encode_feedback(DType type, const float* src, int64_t rows, int64_t cols, const float* factor, void* dst,
                     const KernelTable& table, ThreadPool& pool);

}  // namespace binhdan::encode
