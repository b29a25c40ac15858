#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "gguf/reader.h"
#include "gguf_builder.h"
#include "temporary_folder.h"

using namespace binhdan;
using gguf::File;
using gguf::ValueType;
using Builder = GgufBuilder;

namespace {

constexpr uint32_t kF32 = 0, kQ8_0 = 8;

// Two tensors, and one key of every type.
Builder valid_file() {
  Builder b(2, 17);
  b.key("general.architecture", "llama").key("general.alignment", ValueType::u32, uint32_t{64});
  b.key("a.u8", ValueType::u8, uint8_t{200}).key("a.i8", ValueType::i8, int8_t{-5});
  b.key("a.u16", ValueType::u16, uint16_t{60000}).key("a.i16", ValueType::i16, int16_t{-300});
  b.key("a.i32", ValueType::i32, int32_t{-70000}).key("a.u64", ValueType::u64, ~uint64_t{0});
  b.key("a.i64", ValueType::i64, int64_t{42}).key("a.f32", ValueType::f32, 0.5f);
  b.key("a.f64", ValueType::f64, 0.25).key("a.bool", ValueType::boolean, uint8_t{1});
  b.array("a.strings", ValueType::string, 3).string("xin").string("").string("\xff\xfe");
  b.array("a.ints", ValueType::i16, 2).add(int16_t{-1}).add(int16_t{7});
  b.array("a.floats", ValueType::f32, 2).add(1.5f).add(-2.0f);
  b.array("a.bools", ValueType::boolean, 2).add(uint8_t{0}).add(uint8_t{1});
  b.array("a.empty", ValueType::string, 0);
  b.tensor("w", {4, 3}, kF32, 0).tensor("q", {32, 2}, kQ8_0, 64).pad(64);
  return b.fill(48, 1).pad(64).fill(68, 2);
}

// The File refers to the builder's bytes: keep the builder alive.
File parse(const Builder& builder) {
  return File::parse(builder.bytes(), "test.gguf");
}

// The header of a file with one key and no tensors; the test appends the key.
Builder one_key() {
  return Builder(0, 1);
}
// A file with one tensor, and 64 bytes of data.
Builder one_tensor(std::initializer_list<uint64_t> shape, uint32_t type = kF32, uint64_t offset = 0) {
  Builder b(1, 0);
  return b.tensor("t", shape, type, offset).pad().fill(64);
}

}  // namespace

// ---- valid files ------------------------------------------------------------------------------------

TEST(reads_values_of_every_type) {
  Builder b = valid_file();
  const File file = parse(b);
  CHECK(file.version() == 3 && file.keys().size() == 17 && file.keys()[0] == "general.architecture");
  CHECK(file.get_string("general.architecture") == "llama");
  CHECK(file.get_uint("a.u8") == 200 && file.get_uint("a.u16") == 60000 && file.get_uint("a.i64") == 42);
  CHECK(file.get_uint("a.u64") == ~uint64_t{0});
  CHECK(file.get_float("a.f32") == 0.5 && file.get_float("a.f64") == 0.25);
  CHECK(file.get_bool("a.bool", false));
  CHECK(file.get_strings("a.strings") == (std::vector<std::string_view>{"xin", "", "\xff\xfe"}));
  CHECK(file.get_strings("a.empty").empty());
  CHECK(file.get_ints("a.ints") == (std::vector<int64_t>{-1, 7}));
  CHECK(file.get_ints("a.bools") == (std::vector<int64_t>{0, 1}));
  CHECK(file.get_floats("a.floats") == (std::vector<float>{1.5f, -2.0f}));
  CHECK(file.get_uint("no", 7) == 7 && file.get_float("no", 1.5) == 1.5 && file.get_string("no", "x") == "x");
  CHECK(file.get_bool("no", true));
}

TEST(errors_of_typed_reads_name_the_key_and_both_types) {
  Builder b = valid_file();
  const File file = parse(b);
  CHECK_FAILS(file.get_uint("no.such"), "key 'no.such' is missing");
  CHECK_FAILS(file.get_uint("a.f32"), "key 'a.f32': expected an integer of 0 or more, got f32 0.5");
  CHECK_FAILS(file.get_uint("a.i8"), "key 'a.i8': expected an integer of 0 or more, got i8 -5");
  CHECK_FAILS(file.get_uint("a.bool", 1), "expected an integer, got bool");
  CHECK_FAILS(file.get_uint("a.strings"), "expected an integer, got an array of string");
  CHECK_FAILS(file.get_float("a.u64", 1.0), "expected a number that a double holds exactly, got u64 1844");
  CHECK_FAILS(file.get_float("general.architecture"), "expected a number, got string");
  CHECK_FAILS(file.get_string("a.strings"), "expected a string, got an array of string");
  CHECK_FAILS(file.get_bool("a.u8", false), "expected a bool or an integer of 0 or 1, got u8 200");
  CHECK_FAILS(file.get_bool("a.f32", false), "expected a bool, got f32");
  CHECK_FAILS(file.get_strings("general.architecture"), "expected an array, got string");
  CHECK_FAILS(file.get_strings("a.ints"), "expected an array of strings, got an array of i16");
  CHECK_FAILS(file.get_ints("a.floats"), "expected an array of integers");
  CHECK_FAILS(file.get_floats("a.bools"), "expected an array of numbers, got an array of bool");
  Builder big = one_key();
  big.array("k", ValueType::u64, 1).add(~uint64_t{0});
  CHECK_FAILS(parse(big).get_ints("k"), "element 0 does not fit");
}

TEST(numbers_of_neighbouring_types_convert_where_they_are_exact) {
  const auto with = [](ValueType type, auto value) { return one_key().key("k", type, value); };
  const auto uint_of = [](const Builder& b) { return parse(b).get_uint("k"); };
  const auto float_of = [](const Builder& b) { return parse(b).get_float("k"); };
  const auto bool_of = [](const Builder& b) { return parse(b).get_bool("k", false); };
  CHECK(uint_of(with(ValueType::i32, int32_t{7})) == 7 && uint_of(with(ValueType::i64, int64_t{7})) == 7);
  CHECK(uint_of(with(ValueType::f32, 7.0f)) == 7 && uint_of(with(ValueType::f64, 0.0)) == 0);
  CHECK(float_of(with(ValueType::u32, uint32_t{10000})) == 10000.0);
  CHECK(float_of(with(ValueType::i8, int8_t{-1})) == -1.0);
  CHECK(float_of(with(ValueType::u64, uint64_t{1} << 53)) == 9007199254740992.0);
  CHECK(bool_of(with(ValueType::u8, uint8_t{1})) && !bool_of(with(ValueType::u32, uint32_t{0})));
  CHECK(bool_of(with(ValueType::i64, int64_t{1})));
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {-1.0, 0.5, 18446744073709551616.0, infinity, -infinity, std::nan("")})
    CHECK_FAILS(uint_of(with(ValueType::f64, value)), "expected an integer of 0 or more, got f64");
  CHECK_FAILS(float_of(with(ValueType::i64, -(int64_t{1} << 53) - 1)), "got i64 -9007199254740993");
  CHECK_FAILS(bool_of(with(ValueType::i8, int8_t{-1})), "got i8 -1");
  Builder floats = one_key();
  floats.array("k", ValueType::u8, 2).add(uint8_t{3}).add(uint8_t{0});
  CHECK(parse(floats).get_floats("k") == (std::vector<float>{3.0f, 0.0f}));
  Builder large = one_key();
  large.array("k", ValueType::u64, 1).add(~uint64_t{0});
  CHECK_FAILS(parse(large).get_floats("k"), "element 0 does not fit in a double");
}

TEST(a_recorder_lists_the_keys_that_were_not_read) {
  Builder b = valid_file();
  const File file = parse(b);
  {
    const gguf::KeyRecorder recorder(file);
    CHECK(recorder.unread("a.").size() == 15 && recorder.unread("b.").empty());
    file.get_uint("a.u8");
    file.get_float("a.none", 1.0);
    file.find("a.i8");
    CHECK(recorder.unread("a.").size() == 13 && recorder.unread("a.").front() == "a.u16");
    CHECK(recorder.unread("general.alignment") == std::vector<std::string>{"general.alignment"});
  }
  CHECK(file.get_uint("a.u16") == 60000);
}

TEST(reads_tensors) {
  Builder b = valid_file();
  const File file = parse(b);
  CHECK(file.tensors().size() == 2 && file.bytes() == b.size());
  const gguf::TensorInfo* w = file.find_tensor("w");
  const gguf::TensorInfo* q = file.find_tensor("q");
  CHECK(w && w->type == DType::f32 && w->cols() == 4 && w->rows() == 3 && w->bytes == 48);
  CHECK(q && q->type == DType::q8_0 && q->bytes == 68);
  CHECK(file.data(*w)[0] == std::byte{1} && file.data(*w)[47] == std::byte{1} && file.data(*w).size() == 48);
  CHECK(file.data(*q)[0] == std::byte{2} && file.data(*q)[67] == std::byte{2});
  CHECK(file.find_tensor("x") == nullptr && file.find("x") == nullptr);
  CHECK(parse(Builder(0, 0, 2)).version() == 2);
}

// ---- truncation and random damage --------------------------------------------------------------------

TEST(truncation_at_every_byte_is_an_error) {
  const Builder whole = valid_file();
  int accepted = 0;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> part = whole.copy(size);
    try {
      File::parse(part, "cut.gguf");
      ++accepted;
    } catch (const Error& error) {
      CHECK(error.code() == Code::bad_format);
      CHECK(std::string(error.what()).find("cut.gguf: ") == 0);
    }
  }
  CHECK(accepted == 0);
}

TEST(a_damaged_byte_is_an_error_or_harmless) {
  const Builder whole = valid_file();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::vector<std::byte> bytes = whole.copy(whole.size());
      bytes[at] = static_cast<std::byte>(value);
      try {
        const File file = File::parse(bytes, "damaged.gguf");
        for (const gguf::TensorInfo& tensor : file.tensors()) CHECK(file.data(tensor).size() == tensor.bytes);
      } catch (const Error&) {
      }
    }
  }
}

// ---- header ------------------------------------------------------------------------------------------

TEST(rejects_other_files) {
  std::vector<std::byte> text(100, std::byte{'a'});
  CHECK_FAILS(File::parse(text, "notes.gguf"), "notes.gguf: header, byte 0: not a GGUF file");
  CHECK_FAILS(File::parse(text, "notes.gguf"), "it is a text that starts with 'aaa");
  CHECK_FAILS(parse(Builder(0, 0, 1)), "expected GGUF version 2 or 3, got 1");
  CHECK_FAILS(parse(Builder(0, 0, 4)), "GGUF version 2 or 3, got 4");
  CHECK_FAILS(parse(Builder(0, 0, 0)), "GGUF version 2 or 3, got 0");
  CHECK_FAILS(parse(Builder(0, 0, 0x03000000)), "big-endian");
}

TEST(rejects_huge_counts_before_allocating) {
  for (const uint64_t huge : {uint64_t{1} << 60, ~uint64_t{0}, uint64_t{1} << 32, uint64_t{100}}) {
    CHECK_FAILS(parse(Builder(huge, 0)), "the number of tensors is");
    CHECK_FAILS(parse(Builder(0, huge)), "the number of keys is");
    CHECK_FAILS(parse(one_key().add(huge).fill(8)), "key 0, byte");
    CHECK_FAILS(parse(one_key().string("k").type(ValueType::string).add(huge)), "key 'k', byte");
    for (const ValueType element : {ValueType::u8, ValueType::f64, ValueType::string, ValueType::boolean})
      CHECK_FAILS(parse(one_key().array("k", element, huge)), "the array's length is");
    CHECK_FAILS(parse(Builder(1, 0).add(huge).fill(64)), "tensor 0, byte");
  }
}

// ---- metadata ----------------------------------------------------------------------------------------

TEST(rejects_wrong_types) {
  CHECK_FAILS(parse(one_key().string("k").add(uint32_t{13}).fill(8)),
              "key 'k', byte 33: the value's type is 13");
  CHECK_FAILS(parse(one_key().string("k").add(~uint32_t{0}).fill(8)), "the value's type is 4294967295");
  CHECK_FAILS(parse(one_key().array("k", static_cast<ValueType>(99), 0)), "element type is 99");
  CHECK_FAILS(parse(one_key().key("k", ValueType::boolean, uint8_t{2})), "expected a bool of 0 or 1, got 2");
  CHECK_FAILS(parse(one_key().array("k", ValueType::boolean, 2).add(uint8_t{1}).add(uint8_t{9})), "got 9");
}

TEST(rejects_deep_arrays) {
  Builder b = one_key();
  b.string("deep").type(ValueType::array);
  for (int depth = 0; depth < 100000; ++depth) b.type(ValueType::array).add(uint64_t{1});
  CHECK_FAILS(parse(b), "key 'deep', byte");
  CHECK_FAILS(parse(b), "arrays of arrays");
}

TEST(rejects_duplicate_keys_and_bad_names) {
  Builder twice(0, 2);
  twice.key("k", ValueType::u8, uint8_t{1}).key("k", ValueType::u8, uint8_t{1});
  CHECK_FAILS(parse(twice), "key 'k', byte");
  CHECK_FAILS(parse(twice), "the key occurs twice");
  CHECK_FAILS(parse(one_key().key("", ValueType::u8, uint8_t{1}).fill(8)), "has 0 bytes");
  CHECK_FAILS(parse(one_key().key(std::string(65536, 'k'), ValueType::u8, uint8_t{1})), "has 65536 bytes");
  CHECK_FAILS(parse(one_key().key("k\xc3", ValueType::u8, uint8_t{1})), "not UTF-8 at its byte 1");
  CHECK_FAILS(parse(one_key().key("k", "v\xed\xa0\x80")), "key 'k', byte");
  CHECK_FAILS(parse(one_key().key("k", "v\xed\xa0\x80")), "the string is not UTF-8");
}

TEST(messages_stay_printable) {
  try {
    parse(one_key().string("a\n\x1b[31m" + std::string(60000, 'x')).add(uint32_t{77}).fill(8));
    CHECK(false);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.size() < 400);
    CHECK(message.find('\n') == std::string::npos && message.find('\x1b') == std::string::npos);
  }
}

TEST(rejects_bad_alignment) {
  const auto aligned = [](ValueType type, auto value) {
    return one_key().key("general.alignment", type, value);
  };
  CHECK_FAILS(parse(aligned(ValueType::u32, uint32_t{0})), "key 'general.alignment', byte");
  CHECK_FAILS(parse(aligned(ValueType::u32, uint32_t{48})), "expected a power of two from 8");
  CHECK_FAILS(parse(aligned(ValueType::u32, uint32_t{4})), "got 4");
  CHECK_FAILS(parse(aligned(ValueType::u32, uint32_t{1} << 31)), "expected a power of two");
  CHECK_FAILS(parse(aligned(ValueType::u64, uint64_t{1} << 63)), "expected a power of two");
  CHECK_FAILS(parse(aligned(ValueType::i32, int32_t{-32})), "expected a power of two");
  CHECK_FAILS(parse(aligned(ValueType::f32, 32.0f)), "expected an integer, got f32");
  CHECK_FAILS(parse(one_key().key("general.alignment", "32")), "expected an integer, got string");
  CHECK_FAILS(parse(one_key().array("general.alignment", ValueType::u32, 0)),
              "expected an integer, got array");
  CHECK(parse(aligned(ValueType::u64, uint64_t{4096})).tensors().empty());
}

// ---- tensors -----------------------------------------------------------------------------------------

TEST(rejects_bad_shapes) {
  CHECK(parse(one_tensor({4})).tensors()[0].rows() == 1);
  CHECK(parse(one_tensor({2, 2, 1, 1})).tensors()[0].bytes == 16);
  CHECK_FAILS(parse(one_tensor({})), "expected 1 to 4 dimensions, got 0");
  CHECK_FAILS(parse(one_tensor({1, 1, 1, 1, 1})), "expected 1 to 4 dimensions, got 5");
  CHECK_FAILS(parse(Builder(1, 0).string("t").add(~uint32_t{0}).fill(64)), "dimensions, got 4294967295");
  CHECK_FAILS(parse(one_tensor({0})), "tensor 't', byte");
  CHECK_FAILS(parse(one_tensor({4, 0})), "a dimension is 0");
  CHECK_FAILS(parse(one_tensor({uint64_t{1} << 32, uint64_t{1} << 32})), "overflows 64 bits");
  CHECK_FAILS(parse(one_tensor({uint64_t{1} << 32, uint64_t{1} << 31})), "out of range");
  CHECK_FAILS(parse(one_tensor({~uint64_t{0}})), "the number of elements");
  CHECK_FAILS(parse(one_tensor({uint64_t{1} << 62})), "overflows 64 bits");
  CHECK_FAILS(parse(one_tensor({uint64_t{1} << 40})), "go past the end of the data");
  CHECK_FAILS(parse(one_tensor({33}, kQ8_0)), "rows of Q8_0: expected a multiple of 32 elements, got 33");
  CHECK_FAILS(parse(one_tensor({16, 2}, kQ8_0)), "tensor 't', byte");
}

TEST(lists_tensors_of_unsupported_types) {
  Builder b(4, 0);
  b.tensor("a", {8}, kF32, 32).tensor("b", {256, 2}, 9999, 64).tensor("c", {4}, 15, 0);
  b.tensor("d", {4}, ~uint32_t{0}, 128).pad().fill(160);
  const File file = parse(b);
  CHECK(file.tensors().size() == 1 && file.find_tensor("b") == nullptr);
  const auto& unsupported = file.unsupported_tensors();
  CHECK(unsupported.size() == 3 && unsupported[0].name == "b" && unsupported[0].type == "9999");
  CHECK(unsupported[0].shape == (std::vector<uint64_t>{256, 2}) && unsupported[0].bytes == 64);
  CHECK(unsupported[1].type == "15 (Q8_K)" && unsupported[1].bytes == 32);
  CHECK(unsupported[2].type == "4294967295" && unsupported[2].bytes == 32);
  CHECK_FAILS(parse(one_tensor({4}, 9999, 1)), "not a multiple of the alignment");
  CHECK_FAILS(parse(one_tensor({4}, 9999, 96)), "go past the end of the data");
  CHECK_FAILS(parse(one_tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 9999)), "overflows 64 bits");
}

TEST(rejects_bad_offsets) {
  CHECK(parse(one_tensor({8}, kF32, 32)).data(parse(one_tensor({8}, kF32, 32)).tensors()[0]).size() == 32);
  CHECK_FAILS(parse(one_tensor({4}, kF32, 1)), "not a multiple of the alignment 32");
  CHECK_FAILS(parse(one_tensor({9}, kF32, 32)), "go past the end of the data, which has 64 bytes");
  CHECK_FAILS(parse(one_tensor({4}, kF32, 96)), "tensor 't': 16 bytes at offset 96 go past");
  CHECK_FAILS(parse(one_tensor({4}, kF32, ~uint64_t{31})), "go past the end");
  Builder unpadded(1, 0);
  unpadded.tensor("t", {1}, kF32, 0);
  CHECK_FAILS(parse(unpadded), "go past the end of the data, which has 0 bytes");
}

TEST(rejects_overlaps_and_duplicate_tensors) {
  const auto two = [](const char* second, uint64_t offset) {
    Builder b(2, 0);
    b.tensor("t", {16}, kF32, 32).tensor(second, {8}, kF32, offset).pad().fill(128);
    return b;
  };
  CHECK(parse(two("u", 0)).tensors().size() == 2);
  CHECK(parse(two("u", 96)).tensors().size() == 2);
  CHECK_FAILS(parse(two("u", 32)), "overlap");
  CHECK_FAILS(parse(two("u", 64)), "tensors 't' and 'u' overlap at byte");
  CHECK_FAILS(parse(two("t", 96)), "tensor 't' occurs twice");
}

// ---- files on disk -----------------------------------------------------------------------------------

namespace {

// One part of a split model with one tensor of 8 floats.
Builder split_part(uint16_t number, uint16_t count, int32_t tensors, const char* tensor) {
  Builder b(1, 3);
  b.key("split.no", ValueType::u16, number).key("split.count", ValueType::u16, count);
  b.key("split.tensors.count", ValueType::i32, tensors);
  return b.tensor(tensor, {8}, kF32, 0).pad().fill(32, number + 1);
}

}  // namespace

TEST(opens_all_parts_of_a_split_model) {
  const TemporaryFolder folder;
  const std::string first = folder.write("m-00001-of-00003.gguf", split_part(0, 3, 3, "a").bytes());
  const std::string second = folder.write("m-00002-of-00003.gguf", split_part(1, 3, 3, "b").bytes());
  CHECK_FAILS(File::open(first), "m-00003-of-00003.gguf: No such file");
  folder.write("m-00003-of-00003.gguf", split_part(2, 3, 3, "c").bytes());
  const File file = File::open(first);
  CHECK(file.tensors().size() == 3 && file.find_tensor("c")->file == 2);
  CHECK(file.data(*file.find_tensor("b"))[31] == std::byte{2});
  CHECK(file.bytes() == 3 * split_part(0, 3, 3, "a").size());
  file.release(*file.find_tensor("b"), 0, file.find_tensor("b")->bytes);
  CHECK(file.data(*file.find_tensor("b"))[0] == std::byte{2});
  file.check_intact();
  CHECK_FAILS(File::open(second), "part 2 of a split model; open the first part");
}

TEST(rejects_inconsistent_splits) {
  const TemporaryFolder folder;
  const std::string first = folder.write("m-00001-of-00002.gguf", split_part(0, 2, 2, "a").bytes());
  const auto second = [&](Builder b) { folder.write("m-00002-of-00002.gguf", b.bytes()); };
  second(split_part(1, 2, 2, "a"));
  CHECK_FAILS(File::open(first), "tensor 'a' occurs twice");
  second(split_part(0, 2, 2, "b"));
  CHECK_FAILS(File::open(first), "key 'split.no' is 0, expected 1");
  second(split_part(1, 3, 2, "b"));
  CHECK_FAILS(File::open(first), "key 'split.count' differs");
  second(split_part(1, 2, 2, "b"));
  CHECK(File::open(first).tensors().size() == 2);
  folder.write("m-00001-of-00002.gguf", split_part(0, 2, 3, "a").bytes());
  CHECK_FAILS(File::open(first), "expected 3 tensors, the parts have 2");
  folder.write("m-00001-of-00002.gguf", split_part(0, 60000, 2, "a").bytes());
  CHECK_FAILS(File::open(first),
              "the first of 60000 parts; expected a name that ends in -00001-of-60000.gguf");
  CHECK_FAILS(File::open(folder.write("whole.gguf", split_part(0, 2, 2, "a").bytes())),
              "expected a name that ends");
  CHECK_FAILS(parse(split_part(0, 2, 2, "a")), "one part of a split model");
}

// ---- many keys ---------------------------------------------------------------------------------------

// No clock: a reader of quadratic time needs minutes, and CTest ends it.
TEST(many_keys) {
  constexpr uint64_t kKeys = 500'000;
  Builder b(0, kKeys);
  for (uint64_t i = 0; i < kKeys; ++i) b.key(std::to_string(i) + ".k", ValueType::u8, uint8_t{1});
  CHECK(parse(b).keys().size() == kKeys);
}
