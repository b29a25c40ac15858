// Panels times q8 activations with smlal (matmul.h has the loops).
//
// Instructions (Arm, Cortex-A72 Software Optimization Guide):
//   smlal, smlal2  16-bit lane += product of two signed bytes: eight, latency 4, 1 to an accumulator,
//                  1 a cycle (F0)
//   sadalp         32-bit lane += sum of two 16-bit lanes; latency 4, 1 to an accumulator, 1 a cycle (F1)
//   addp, saddlp   sums of neighbours; 1 to 2 a cycle
//   dup            1 to 2 a cycle
// So the peak is 8 multiply-adds a cycle: everything but smlal should run on F1.
//
// Algebra. Quants of all types fit in a signed byte. For the columns of one scale, with quants u and zero
// point z:
//   sum (u - z) a = sum u a - z sum a                    sum a is BlockQ8A::sum
// A lane of a 16-bit sum has one column of each group. With |u| <= C and |a| <= 127, 32767 / (127 C) groups
// fit: all groups of a scale, except for 8 bits (Q8_0, IQ4: 2 groups) and IQ3 (4 groups). sadalp widens
// shorter chains. All integers are exact.
//
// A tile is two rows of activations times 16 rows of weights: 16 sums of 16 bits, and 8 float sums. Where
// chains are short, it is half as wide.
//
// Cost for four rows of weights and a block of 32 columns, in instructions (128 multiply-adds, 16 cycles at
// the peak), and cycles that llvm-mca 19 predicts for tiles of decoded blocks on Cortex-A72
// (-mcpu=cortex-a72, GCC 12):
//                                  Q4_0   Q8_0   Q4_K   Q6_K (two scales)
//   smull, smlal                     16     16     16     16
//   sadalp, saddlp                    1      8      1      2
//   addp                              1      1      1      2
//   scvtf, scale * d, fmla            3      3      3      6
//   minimum                                         1
//   multiply-adds a cycle           7.1    6.7    6.9    6.5
//   of the peak                     89 %   83 %   86 %   81 %
// A row that is decoded needs 83 cycles for a block of 16 rows in Q4_0 (288 bytes), 84 in Q8_0 (544 bytes)
// and 119 in Q4_K: memory limits it.
#include "kernels/neon/matmul.h"
#include "kernels/neon/functions.h"

namespace binhdan::neon {
namespace {

// Four columns of activations, the same for every row of weights.
BINHDAN_INLINE int8x16_t four_columns(const int8_t* qs) {
  return vreinterpretq_s8_u32(vdupq_n_u32(four_bytes(qs)));
}

struct Smlal {
  static constexpr int kTileRows = 2;
  // Products of one lane that fit in 16 bits.
  template <class Blocks>
  static constexpr int kFit = 32767 / (127 * Blocks::kMaxByte);
  // Groups added in 16 bits: 8, 4 or 2.
  template <class Blocks>
  static constexpr int kChain = kFit<Blocks> >= kGroups<Blocks> ? kGroups<Blocks>
                                : kFit<Blocks> >= 4             ? 4
                                                                : 2;
  // The 32-bit sums of several chains need registers too: then half of the rows at a time.
  template <class Blocks>
  static constexpr bool kOneChain = kChain<Blocks> == kGroups<Blocks>;
  template <class Blocks>
  static constexpr int kAtOnce = kOneChain<Blocks> ? kQuarters : kQuarters / 2;

  template <int M, int Q, class Blocks>
  BINHDAN_INLINE void dots(float32x4_t (&dot)[M][Q], const Blocks& blocks, int64_t b, int part, int first,
                           const BlockQ8A* const (&x)[M]) {
    static_assert(kFit<Blocks> >= 2);
    constexpr int kPass = Q < kAtOnce<Blocks> ? Q : kAtOnce<Blocks>;
#pragma GCC unroll 2
    for (int pass = 0; pass < Q; pass += kPass) {
      int16x8_t sums16[M][kPass][2];  // lanes: four columns of rows 0, 1; of rows 2, 3
      int32x4_t sums32[M][kPass][2];  // lanes: two sums of columns of rows 0, 1; of rows 2, 3
#pragma GCC unroll 8
      for (int k = 0; k < kGroups<Blocks>; ++k) {
        const int g = part * kGroups<Blocks> + k;
        int8x16_t a[M];
#pragma GCC unroll 2
        for (int i = 0; i < M; ++i) a[i] = four_columns(x[i][b].qs + 4 * g);
#pragma GCC unroll 4
        for (int q = 0; q < kPass; ++q) {
          const int8x16_t w = blocks.quants(b, g, first + pass + q);
#pragma GCC unroll 2
          for (int i = 0; i < M; ++i) {
            int16x8_t(&sum)[2] = sums16[i][q];
            if (k % kChain<Blocks> == 0) {
              sum[0] = vmull_s8(vget_low_s8(w), vget_low_s8(a[i]));
              sum[1] = vmull_high_s8(w, a[i]);
            } else {
              sum[0] = vmlal_s8(sum[0], vget_low_s8(w), vget_low_s8(a[i]));
              sum[1] = vmlal_high_s8(sum[1], w, a[i]);
            }
            if (!kOneChain<Blocks> && (k + 1) % kChain<Blocks> == 0)
#pragma GCC unroll 2
              for (int half = 0; half < 2; ++half) {
                int32x4_t& wide = sums32[i][q][half];
                wide = k < kChain<Blocks> ? vpaddlq_s16(sum[half]) : vpadalq_s16(wide, sum[half]);
              }
          }
        }
      }
#pragma GCC unroll 2
      for (int i = 0; i < M; ++i) {
        const int32x4_t correction = vdupq_n_s32(zero_point_dot<Blocks>(x[i][b], part));
#pragma GCC unroll 4
        for (int q = 0; q < kPass; ++q) {
          int32x4_t sum;
          if constexpr (!kOneChain<Blocks>)
            sum = vpaddq_s32(sums32[i][q][0], sums32[i][q][1]);
          else if constexpr (kFit<Blocks> >= 2 * kChain<Blocks>)  // two columns fit in 16 bits
            sum = vpaddlq_s16(vpaddq_s16(sums16[i][q][0], sums16[i][q][1]));
          else
            sum = vpaddq_s32(vpaddlq_s16(sums16[i][q][0]), vpaddlq_s16(sums16[i][q][1]));
          if constexpr (Blocks::kZeroPoint != 0) sum = vsubq_s32(sum, correction);
          dot[i][pass + q] = vcvtq_f32_s32(sum);
        }
      }
    }
  }
};

}  // namespace

using Product = QuarterProduct<Smlal>;
BINHDAN_PANEL_TYPES(BINHDAN_PANEL_MATMUL)

}  // namespace binhdan::neon
