// The forward pass: within a numeric class, bits do not depend on batch, threads or chunks.
#include <cstring>
#include <deque>

#include "check.h"
#include "embedded_model.h"
#include "model/forward.h"

using namespace binhdan;
using model::Chunk;
using model::Outputs;

namespace {

using Bits = std::vector<float>;

bool same(const Bits& a, const Bits& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

constexpr KvType kKvAll[] = {KvType::f16, KvType::q8_0};

// Logits after the whole prompt, computed in chunks of `chunk` tokens.
Bits last_logits(const model::Model& m, const std::vector<text::Token>& prompt, int threads, size_t chunk,
                 bool decode = false, KvType type = KvType::f16) {
  model::Forward forward(m, threads);
  model::SequenceState state(m.config, type);
  for (size_t begin = 0; begin < prompt.size(); begin += chunk) {
    const size_t count = std::min(chunk, prompt.size() - begin);
    state.reserve(static_cast<int64_t>(count));
    const Chunk part{&state, std::span(prompt).subspan(begin, count), Outputs::last_logits, decode};
    forward.run({&part, 1});
  }
  CHECK(state.length() == static_cast<int64_t>(prompt.size()));
  const auto logits = forward.logits(0);
  return {logits.begin(), logits.end()};
}

}  // namespace

// 600 positions cross many pages and one border of attention splits. The scalar table is slow under
// sanitizers, so its prompt crosses only one page.
TEST(bits_do_not_depend_on_threads_or_chunks) {
  for (const KernelTable* table : compiled_tables()) {
    if (!table->supported(cpu_features())) continue;
    const auto m = embedded_model(table->isa);
    const bool slow = table == &kScalarTable;
    const auto prompt = some_tokens(slow ? 70 : 600);
    for (const KvType type : kKvAll) {
      const Bits want = last_logits(*m, prompt, 1, prompt.size(), false, type);
      CHECK(same(want, last_logits(*m, prompt, 2, 37, false, type)));
      if (slow) continue;
      CHECK(same(want, last_logits(*m, prompt, 3, prompt.size(), false, type)));
      CHECK(same(want, last_logits(*m, prompt, 2, 64, false, type)));
    }
  }
}

TEST(q8_0_keys_and_values_change_logits_little) {
  const auto m = embedded_model();
  const auto prompt = some_tokens(200);
  const Bits exact = last_logits(*m, prompt, 1, 200),
             rounded = last_logits(*m, prompt, 1, 200, false, KvType::q8_0);
  CHECK(!same(exact, rounded));
  double error = 0, size = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += (rounded[i] - exact[i]) * (rounded[i] - exact[i]);
    size += exact[i] * exact[i];
  }
  CHECK(error < 1e-3 * size);
}

// A sequence may append pages that another sequence computed in a batch: bits equal those with own pages.
TEST(shared_pages_keep_the_bits) {
  for (const KernelTable* table : compiled_tables()) {
    if (!table->supported(cpu_features())) continue;
    const auto m = embedded_model(table->isa);
    const size_t shared_pages = table == &kScalarTable ? 1 : 2, shared = shared_pages * kKvPageTokens;
    const auto prompt = some_tokens(shared + 20), other = some_tokens(20, 9);
    for (const KvType type : kKvAll) {
      const Bits want = last_logits(*m, prompt, 1, prompt.size(), false, type);
      model::Forward forward(*m, 2);
      model::SequenceState first(m->config, type), batched(m->config, type), second(m->config, type);
      first.reserve(static_cast<int64_t>(shared));
      batched.reserve(20);
      const Chunk chunks[] = {{&batched, other, Outputs::none, false},
                              {&first, std::span(prompt).first(shared), Outputs::none, false}};
      forward.run(chunks);
      std::vector<model::KvPage> pages;
      for (size_t i = 0; i < shared_pages; ++i) pages.push_back(first.page(i));
      second.append_shared(pages);
      second.reserve(20);
      const Chunk rest{&second, std::span(prompt).subspan(shared), Outputs::last_logits, false};
      forward.run({&rest, 1});
      const auto got = forward.logits(0);
      CHECK(same(want, {got.begin(), got.end()}));
    }
  }
}

// Positions of the other prompt after the common prefix have no effect.
TEST(a_partial_page_keeps_the_bits) {
  for (const KernelTable* table : compiled_tables()) {
    if (!table->supported(cpu_features())) continue;
    const auto m = embedded_model(table->isa);
    auto prompt = some_tokens(90);
    auto other = prompt;
    for (size_t i = 75; i < other.size(); ++i) other[i] = (other[i] + 100) % 1000;
    for (const KvType type : kKvAll) {
      const Bits want = last_logits(*m, prompt, 1, prompt.size(), false, type);
      model::Forward forward(*m, 2);
      model::SequenceState first(m->config, type), second(m->config, type);
      first.reserve(90);
      const Chunk before{&first, other, Outputs::none, false};
      forward.run({&before, 1});
      second.append_shared({{first.page(0)}});
      second.append_partial(first.page(1).copy(), 75 - kKvPageTokens);
      second.reserve(15);
      const Chunk rest{&second, std::span(prompt).subspan(75), Outputs::last_logits, false};
      forward.run({&rest, 1});
      const auto got = forward.logits(0);
      CHECK(same(want, {got.begin(), got.end()}));
    }
  }
}

TEST(a_batch_has_one_type_of_keys_and_values) {
  const auto m = embedded_model();
  const auto token = some_tokens(1);
  model::SequenceState a(m->config, KvType::f16), b(m->config, KvType::q8_0);
  const auto page_bytes = [](const model::SequenceState& state) {
    return state.layout().sizes().all_parts();
  };
  CHECK(page_bytes(b) * 64 == page_bytes(a) * 34);
  CHECK(page_bytes(a) == m->config.kv_bytes_per_token() * kKvPageTokens);
  a.reserve(1);
  b.reserve(1);
  const Chunk chunks[] = {{&a, token, Outputs::none, true}, {&b, token, Outputs::none, true}};
  model::Forward forward(*m, 1);
  CHECK_FAILS(forward.run(chunks), "chunk 1 has another KV type than chunk 0");
  CHECK(a.length() == 0 && b.length() == 0);
}

TEST(single_tokens_equal_one_chunk_if_a_table_has_one_class) {
  const auto m = embedded_model();
  if (!m->weights.output.kernel->gemv_equals_gemm) return;
  const auto prompt = some_tokens(70);
  const Bits want = last_logits(*m, prompt, 1, 70);
  CHECK(same(want, last_logits(*m, prompt, 2, 1)));
  CHECK(same(want, last_logits(*m, prompt, 2, 1, true)));
}

TEST(bits_do_not_depend_on_the_batch) {
  const auto m = embedded_model();
  const auto a = some_tokens(90, 1), b = some_tokens(31, 2), c = some_tokens(1, 3);
  model::Forward forward(*m, 2);
  model::SequenceState sa(m->config), sb(m->config), sc(m->config);
  for (auto* state : {&sa, &sb, &sc}) state->reserve(100);
  const Chunk chunks[] = {{&sc, c, Outputs::last_logits, true},
                          {&sa, a, Outputs::last_logits, false},
                          {&sb, b, Outputs::last_logits, false}};
  forward.run(chunks);
  const auto got = [&](size_t i) { return Bits(forward.logits(i).begin(), forward.logits(i).end()); };
  CHECK(same(got(0), last_logits(*m, c, 1, 1, true)));
  CHECK(same(got(1), last_logits(*m, a, 1, 90)));
  CHECK(same(got(2), last_logits(*m, b, 1, 31)));
}

// More rows need an output than one rank prepares by itself, and fewer than the batch has.
TEST(only_output_rows_continue_after_the_last_state) {
  for (const KernelTable* table : compiled_tables()) {
    if (!table->supported(cpu_features())) continue;
    const auto m = embedded_model(table->isa);
    constexpr size_t kTexts = 12;
    std::vector<std::vector<text::Token>> texts;
    std::deque<model::SequenceState> states;
    std::vector<Chunk> chunks;
    uint64_t rows = 0;
    for (size_t i = 0; i < kTexts; ++i) {
      texts.push_back(some_tokens(i == 0 ? 1 : 2 + i, static_cast<unsigned>(i)));
      states.emplace_back(m->config).reserve(100);
      rows += texts.back().size();
    }
    for (size_t i = 0; i < kTexts; ++i)
      chunks.push_back({&states[i], texts[i], Outputs::last_logits, i == 0});
    model::Forward forward(*m, 2);
    model::Profile profile;
    forward.set_profile(&profile);
    forward.run(chunks);
    for (size_t i = 0; i < kTexts; ++i) {
      const Bits got(forward.logits(i).begin(), forward.logits(i).end());
      CHECK(same(got, last_logits(*m, texts[i], 1, texts[i].size(), i == 0)));
    }
    const auto layers = static_cast<uint64_t>(m->config.layers.size());
    CHECK(profile.ops[static_cast<size_t>(model::Op::down)].macs ==
          ((layers - 1) * rows + kTexts) * static_cast<uint64_t>(m->config.dim * m->config.layers[0].ffn));
  }
}

TEST(all_logits_and_hidden_states_of_a_mixed_batch) {
  const auto m = embedded_model();
  const auto a = some_tokens(12, 4), b = some_tokens(9, 5);
  model::Forward forward(*m, 2);
  model::SequenceState sa(m->config), sb(m->config);
  sa.reserve(12);
  sb.reserve(9);
  const Chunk chunks[] = {{&sb, b, Outputs::all_hidden, false}, {&sa, a, Outputs::all_logits, false}};
  forward.run(chunks);
  for (size_t i = 0; i < a.size(); ++i) {
    const std::vector<text::Token> prefix(a.begin(), a.begin() + static_cast<long>(i) + 1);
    const auto row = forward.logits(1, i);
    const Bits got(row.begin(), row.end());
    model::Forward alone(*m, 1);
    CHECK(same(got, last_logits(*m, prefix, 1, prefix.size())));
  }
  // The hidden states of two rows differ.
  const auto first = forward.hidden(0, 0), last = forward.hidden(0, 8);
  CHECK(first.size() == static_cast<size_t>(m->config.dim));
  CHECK(std::memcmp(first.data(), last.data(), first.size_bytes()) != 0);
}

// The table with the given name is used even when another one is faster.
TEST(the_named_table_is_used) {
  for (const KernelTable* table : compiled_tables()) {
    if (!table->supported(cpu_features())) continue;
    const auto m = embedded_model(table->isa);
    CHECK(m->table == table);
    CHECK(m->weights.output.kernel == &table->matmul[static_cast<uint32_t>(DType::q8_0)]);
  }
}

TEST(a_profile_counts_bytes_and_multiply_adds) {
  for (const KvType type : kKvAll) {
    const auto m = embedded_model();
    const auto prompt = some_tokens(20);
    model::Forward forward(*m, 2);
    model::SequenceState state(m->config, type);
    model::Profile profile;
    state.advance_blank(100);
    state.reserve(20);
    forward.set_profile(&profile);
    const Chunk chunk{&state, prompt, Outputs::last_logits, false};
    forward.run({&chunk, 1});
    const auto& weights = m->weights;
    const auto cost = [&](model::Op op) { return profile.ops[static_cast<size_t>(op)]; };
    uint64_t bytes = 0;
    int64_t ns = 0;
    for (const model::OpStats& op : profile.ops) {
      bytes += op.bytes;
      ns += op.ns;
    }
    const uint64_t kv_bytes = 120 * state.layout().sizes().all_parts() / kKvPageTokens;
    CHECK(bytes == weights.bytes_per_token() + kv_bytes);
    CHECK(ns > 0 && ns <= profile.ns);
    CHECK(cost(model::Op::attention).bytes == kv_bytes);
    const auto layers = static_cast<int64_t>(m->config.layers.size());
    CHECK(cost(model::Op::qkv).calls == layers);
    CHECK(cost(model::Op::logits).macs == static_cast<uint64_t>(m->config.vocabulary * m->config.dim));
    // Only the last row continues after the last layer's attention.
    CHECK(cost(model::Op::down).macs ==
          static_cast<uint64_t>(((layers - 1) * 20 + 1) * m->config.dim * m->config.layers[0].ffn));
  }
}
