// A batch: chunks of tokens of one or more sequences, laid out as the rows of one forward pass, and the rows
// whose logits or hidden states each chunk needs.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/state.h"
#include "ops/attention.h"
#include "ops/matmul.h"
#include "text/vocab.h"

namespace binhdan::model {

class Adapter;

// What the forward pass returns for a chunk. It always writes keys and values.
enum class Outputs {
  none,
  last_logits,
  all_logits,
  all_hidden,  // hidden states after the final norm: of all tokens
  first_hidden,
  last_hidden,
};

// Consecutive tokens of one sequence. The caller makes space for them with SequenceState::reserve().
struct Chunk {
  SequenceState* state;                 // the same KvType in all chunks of a batch
  std::span<const text::Token> tokens;  // each in [0, vocabulary)
  Outputs outputs;
  bool decode;  // numeric class: decode rows when true, prefill rows when false
  // Of a recurrent model, if set: gets the recurrent state after this many of the tokens, a number that ends
  // a page.
  std::shared_ptr<Buffer> checkpoint = nullptr;
  int64_t checkpoint_tokens = 0;
  int64_t unverified = 0;  // tokens at the end that SequenceState::truncate() may remove after the pass
  const Adapter* adapter = nullptr;  // of the same model; or none
};

// One token of a batch.
struct Row {
  SequenceState* state;
  text::Token token;
  int64_t position;
  int64_t length;               // of the sequence, with this batch
  const Adapter* adapter;       // or nullptr
  bool in_second_text = false;  // of a pair for a reranker

  ops::AttentionRow attention_row(PagePart part) const { return {state->pages(part), position, length}; }
};

// The rows of one chunk.
struct RowRun {
  SequenceState* state;
  int64_t row, rows;
  NumericClass numeric_class;
  Buffer* checkpoint;  // or nullptr
  int64_t checkpoint_rows;
};

// Some rows of a batch, decode rows first.
struct RowSet {
  std::vector<int64_t> index;  // of each row in Batch::rows
  ops::ClassCounts classes{};
  std::vector<ops::AttentionPlan> attention;  // one for each kind of window

  int64_t size() const { return classes.total; }
  bool empty() const { return classes.total == 0; }
};

struct Batch {
  // Lays the chunks out as rows. Chunks with decode = true come first; a sequence occurs once at most. Throws
  // Error(internal) when the states differ in KvType.
  void assign(std::span<const Chunk> chunks);
  // Each chunk is a whole pair of texts: the rows after its first separator are those of the second text.
  void mark_second_texts(text::Token separator);

  std::vector<Row> rows;
  std::vector<RowRun> runs;
  RowSet all;                        // every row
  RowSet output;                     // rows whose final hidden state is needed
  RowSet logits;                     // the row of each result; all of the class decode
  std::vector<int64_t> hidden_rows;  // the row of each result
  std::vector<size_t> first_result;  // of each chunk, in logits or hidden_rows
  int64_t max_rank = 0;              // of the adapters; 0: no row has one
};

}  // namespace binhdan::model
