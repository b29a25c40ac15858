// Attention, eight lanes (kernels/attention_lanes.h has the loops and the algebra). In registers of 128 bits, a
// vector needs two of them: tiles of four vectors by one or two heads, or two by up to five, leave room for the
// keys. The pages are those of the scalar table.
//
// A float16 needs six instructions to become a float32 (registers.h), so they are as many as the products of a
// tile of six heads.
#include "kernels/attention_lanes.h"
#include "kernels/rvv/functions.h"
#include "kernels/rvv/lanes.h"

namespace binhdan::rvv {
namespace {

struct PageLanes : Lanes {
  static constexpr int kMaxHeads = 5;
  template <int H>
  static constexpr int kTile = H <= 2 ? 4 : 2;

  // As load_f16 in registers.h.
  BINHDAN_INLINE V load_element(const uint16_t* src) {
    const Int8 wide = __builtin_convertvector(load_as<Short8>(src), Int8);
    const V x = floats((wide << 13) & static_cast<int32_t>(0x8fffe000)) * 0x1p112f;
    const Int8 special = magnitude(x) >= broadcast(0x1p16f);
    return floats(bits(x) | (special & 0x7f800000));
  }
  BINHDAN_INLINE V load_element(const float* src) { return load(src); }
  BINHDAN_INLINE V load_element(const int8_t* src) { return __builtin_convertvector(load_as<Byte8>(src), V); }
  // head_dim is a multiple of 8, so vectors are always full.
  BINHDAN_INLINE V load_first(const float* src, int64_t) { return load(src); }
  BINHDAN_INLINE void store_first(float* dst, int64_t, V x) { store(dst, x); }
  template <class Element>
  BINHDAN_INLINE V load_element_first(const Element* src, int64_t) {
    return load_element(src);
  }
};

}  // namespace

void attention(const AttentionArgs& args) {
  LaneAttention<PageLanes, uint16_t>::run(args);
}

void attention_q8(const AttentionArgs& args) {
  LaneAttention<PageLanes, int8_t>::run(args);
}

size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim) {
  return LaneAttention<PageLanes, int8_t>::scratch_size(rows, heads, head_dim);
}

}  // namespace binhdan::rvv
