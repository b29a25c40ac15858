#include "model/weights.h"

#include <cmath>
#include <string>

#include "base/utf8.h"
#include "model/loader.h"
#include "model/pack_file.h"

namespace binhdan::model {
namespace {

// Loads the tensors of one layer.
class LayerLoader {
 public:
  LayerLoader(Loader& loader, const Config& config, size_t index, LayerWeights& w)
      : loader_(loader),
        config_(config),
        family_(*config.family),
        layer_(config.layers[index]),
        prefix_("blk." + std::to_string(index) + "."),
        stores_kv_(config.stores_kv(index)),
        w_(w) {}

  void load() {
    if (family_.norms != NormPlaces::after_sum) w_.attention_norm = norm("attn_norm");
    switch (layer_.mixer) {
      case Mixer::attention:
        load_attention();
        break;
      case Mixer::short_convolution:
        load_short_convolution();
        break;
      case Mixer::delta_net:
        load_delta_net();
        break;
    }
    if (family_.norms == NormPlaces::before_and_after) w_.post_attention_norm = norm("post_attention_norm");
    if (family_.norms == NormPlaces::after_sum) w_.post_attention_norm = norm("attn_output_norm");
    load_feed_forward();
    if (config_.per_layer_dim > 0) load_input_embedding();
    if (const Vector scale = bias("layer_output_scale.weight", 1)) w_.output_scale = *scale;
  }

 private:
  Norm norm(const char* name) { return loader_.norm(prefix_ + name, config_.dim, family_.layer_norm); }
  Vector vector(const char* name, int64_t n) { return loader_.vector(prefix_ + name, n); }
  Vector bias(const char* name, int64_t n, bool required = false) {
    return loader_.vector_if(required, prefix_ + name, n);
  }
  bool has(const char* name) const { return loader_.has(prefix_ + name); }
  void matrix(Matrix& matrix, const char* name, int64_t rows, int64_t cols) {
    loader_.take_matrix(matrix, prefix_ + name, rows, cols);
  }

  void load_attention() {
    const int64_t width = layer_.heads * layer_.head_dim, kv_width = layer_.kv_heads * layer_.head_dim;
    const int64_t q_width = family_.gated_attention ? 2 * width : width, dim = config_.dim;
    if (has("attn_qkv.weight")) {
      loader_.take_stacked(prefix_ + "attn_qkv.weight", dim,
                           {{&w_.q, q_width}, {&w_.k, kv_width}, {&w_.v, kv_width}});
      if (const Vector biases = bias("attn_qkv.bias", q_width + 2 * kv_width)) {
        w_.q_bias = biases;
        w_.k_bias = biases + q_width;
        w_.v_bias = biases + q_width + kv_width;
      }
    } else {
      matrix(w_.q, "attn_q.weight", q_width, dim);
      w_.q_bias = bias("attn_q.bias", q_width, family_.requires_qkv_bias);
      if (stores_kv_) {
        matrix(w_.k, "attn_k.weight", kv_width, dim);
        w_.k_bias = bias("attn_k.bias", kv_width, family_.requires_qkv_bias);
        // With v_norm, the keys before their norm may serve as values.
        if (!family_.v_norm || has("attn_v.weight")) matrix(w_.v, "attn_v.weight", kv_width, dim);
        w_.v_bias = bias("attn_v.bias", kv_width, family_.requires_qkv_bias);
      }
    }
    if (family_.qk_norm) {
      w_.q_norm = vector("attn_q_norm.weight", layer_.head_dim);
      if (stores_kv_) w_.k_norm = vector("attn_k_norm.weight", layer_.head_dim);
    }
    matrix(w_.attention_output, "attn_output.weight", dim, width);
    w_.attention_output_bias = bias("attn_output.bias", dim);
  }

  void load_short_convolution() {
    matrix(w_.convolution_input, "shortconv.in_proj.weight", 3 * config_.dim, config_.dim);
    w_.convolution =
        loader_.transposed(prefix_ + "shortconv.conv.weight", config_.dim, config_.convolution_taps);
    matrix(w_.attention_output, "shortconv.out_proj.weight", config_.dim, config_.dim);
  }

  void load_delta_net() {
    const DeltaNetConfig& delta = config_.delta_net;
    const int64_t dim = config_.dim, channels = delta.channels();
    matrix(w_.convolution_input, "attn_qkv.weight", channels, dim);
    w_.convolution = loader_.transposed(prefix_ + "ssm_conv1d.weight", channels, config_.convolution_taps);
    matrix(w_.z, "attn_gate.weight", delta.value_width(), dim);
    matrix(w_.alpha, "ssm_alpha.weight", delta.heads, dim);
    matrix(w_.beta, "ssm_beta.weight", delta.heads, dim);
    w_.decay = vector("ssm_a", delta.heads);
    w_.time_bias = vector("ssm_dt.bias", delta.heads);
    w_.value_norm = vector("ssm_norm.weight", delta.value_dim);
    matrix(w_.attention_output, "ssm_out.weight", dim, delta.value_width());
  }

  void load_feed_forward() {
    const int64_t ffn = layer_.ffn, dim = config_.dim;
    if (family_.norms != NormPlaces::after_sum) w_.ffn_norm = norm(family_.ffn_norm);
    if (family_.gated_ffn && !has("ffn_gate.weight")) {
      loader_.take_stacked(prefix_ + "ffn_up.weight", dim, {{&w_.gate, ffn}, {&w_.up, ffn}});
    } else {
      if (family_.gated_ffn) matrix(w_.gate, "ffn_gate.weight", ffn, dim);
      matrix(w_.up, "ffn_up.weight", ffn, dim);
      w_.gate_bias = bias("ffn_gate.bias", ffn);
      w_.up_bias = bias("ffn_up.bias", ffn);
    }
    matrix(w_.down, "ffn_down.weight", dim, ffn);
    w_.down_bias = bias("ffn_down.bias", dim);
    if (family_.norms == NormPlaces::before_and_after) w_.post_ffn_norm = norm("post_ffw_norm");
    if (family_.norms == NormPlaces::after_sum) w_.post_ffn_norm = norm("layer_output_norm");
  }

  void load_input_embedding() {
    matrix(w_.input_gate, "inp_gate.weight", config_.per_layer_dim, config_.dim);
    matrix(w_.input_projection, "proj.weight", config_.dim, config_.per_layer_dim);
    w_.post_input_norm = norm("post_norm");
  }

  Loader& loader_;
  const Config& config_;
  const Family& family_;
  const LayerConfig& layer_;
  const std::string prefix_;
  const bool stores_kv_;
  LayerWeights& w_;
};

void load_embeddings(Loader& loader, const Config& config, Weights& weights) {
  const int64_t dim = config.dim;
  if (config.family->has_logits) {
    weights.tied = !loader.has("output.weight");
    loader.take_matrix(weights.output, weights.tied ? "token_embd.weight" : "output.weight",
                       config.vocabulary, dim);
  }
  if (!weights.tied) weights.embedding = loader.lookup("token_embd.weight", config.vocabulary, dim);
  if (config.family->position_embedding) {
    weights.position_embedding = loader.lookup("position_embd.weight", config.context, dim);
    if (loader.has("token_types.weight")) {
      const int64_t types = loader.rows("token_types.weight");
      weights.token_types = loader.values("token_types.weight", types, dim);
      weights.has_second_type = types > 1;
    }
    weights.embedding_norm = loader.norm("token_embd_norm", dim, config.family->layer_norm);
  }
  if (config.per_layer_dim > 0) {
    const int64_t width = std::ssize(config.layers) * config.per_layer_dim;
    weights.per_layer.embedding = loader.lookup("per_layer_token_embd.weight", config.vocabulary, width);
    loader.take_matrix(weights.per_layer.projection, "per_layer_model_proj.weight", width, dim);
    weights.per_layer.norm = loader.norm("per_layer_proj_norm", config.per_layer_dim, false);
  }
}

// The layers after pooling (sentence-transformers' Dense modules).
void load_projections(Loader& loader, const Config& config, Weights& weights) {
  int64_t width = config.dim;
  for (const std::string name : {"dense_2.weight", "dense_3.weight"}) {
    if (!loader.has(name)) continue;
    const int64_t rows = loader.rows(name);
    weights.projections.push_back({rows, width, loader.values(name, rows, width)});
    width = rows;
  }
}

// Two classes are accepted only with the labels of Qwen3-Reranker: in another order the score would be wrong.
int64_t read_classes(const gguf::File& file, const std::string& architecture) {
  const std::string key = architecture + ".classifier.output_labels";
  if (!file.find(key)) return 1;
  const auto labels = file.get_strings(key);
  if (labels.size() <= 1) return 1;
  if (labels.size() != 2 || labels[0] != "yes" || labels[1] != "no")
    fail(Code::unsupported, file.path(), ": key ", quote_name(key),
         ": expected one label, or \"yes\" and \"no\", got ", labels.size(), " labels from ",
         quote_name(labels[0]));
  return 2;
}

void load_classifier(Loader& loader, const gguf::File& file, const Config& config, Classifier& c) {
  const int64_t dim = config.dim;
  c.classes = read_classes(file, config.architecture);
  if (loader.has("cls.weight")) {
    c.dense = loader.values("cls.weight", dim, dim);
    c.dense_bias = loader.vector_if(false, "cls.bias", dim);
  }
  c.output = loader.values("cls.output.weight", c.classes, dim);
  c.output_bias = loader.vector_if(false, "cls.output.bias", c.classes);
}

}  // namespace

Weights Weights::load(const gguf::File& file, const Config& config, const KernelTable& table,
                      const LoadOptions& options, const std::function<void()>& run_on_caller) {
  Weights weights;
  Loader loader(file, config, table, weights);
  load_embeddings(loader, config, weights);
  weights.layers.resize(config.layers.size());
  for (size_t i = 0; i < config.layers.size(); ++i) LayerLoader(loader, config, i, weights.layers[i]).load();
  if (const char* name = config.family->output_norm)
    weights.output_norm = loader.norm(name, config.dim, config.family->layer_norm);
  if (!config.ropes.empty()) {
    const int64_t pairs = config.ropes[0].dim / 2;
    weights.rope_factors = loader.vector_if(false, "rope_freqs.weight", pairs);
    weights.long_rope_factors = loader.vector_if(false, "rope_factors_long.weight", pairs);
    weights.short_rope_factors = loader.vector_if(false, "rope_factors_short.weight", pairs);
  }
  load_projections(loader, config, weights);
  if (config.pooling == Pooling::rank) load_classifier(loader, file, config, weights.classifier);
  loader.pack_all(options, run_on_caller);
  return weights;
}

void Weights::write_pack_file(const gguf::File& file, const std::string& path) const {
  if (packed_.empty())
    fail(Code::unsupported, file.path(),
         ": no tensor of this model is packed; it starts without a pack file");
  PackFile::write(path, {file.identity(), packed_layout_, packed_.size()}, packed_);
}

std::vector<double> Weights::project_embedding(std::vector<double> pooled) const {
  for (const Dense& layer : projections) {
    std::vector<double> result(static_cast<size_t>(layer.rows));
    for (int64_t r = 0; r < layer.rows; ++r)
      for (int64_t c = 0; c < layer.cols; ++c)
        result[static_cast<size_t>(r)] +=
            static_cast<double>(layer.weight[r * layer.cols + c]) * pooled[static_cast<size_t>(c)];
    pooled = std::move(result);
  }
  return pooled;
}

uint64_t Weights::bytes_per_token() const {
  uint64_t sum = output.bytes() + per_layer.projection.bytes();
  for (const LayerWeights& w : layers)
    w.for_each_matrix([&](const Matrix& matrix) { sum += matrix.bytes(); });
  return sum;
}

}  // namespace binhdan::model
