// SPDX-License-Identifier: Apache-2.0
// One decoder-only transformer for Llama (SmolLM2), Mistral, Qwen2, Qwen3, Qwen2-MoE, Qwen3-MoE, gpt-oss, Gemma 2 and
// Gemma 3: forward, training, decoding with a cache. Files are read and written by checkpoint/.
#ifndef KDLIB_MODEL_DECODER_HPP
#define KDLIB_MODEL_DECODER_HPP

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/model/decode_state.hpp"
#include "kdlib/model/decoder_config.hpp"
#include "kdlib/model/kv_cache.hpp"
#include "kdlib/nn/attention.hpp"
#include "kdlib/nn/experts.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where the matrices of a loaded model lie.
enum class WeightStorage : std::uint8_t {
  decoded,  // every matrix in memory, in the model's scalar type
  in_file   // matrices stay in the mapped file in its element type or blocks and are decoded where a product needs them
};

/// Where the frozen matrices of a model on D are best: in their file on the host. A device with memory of its own would
/// wait for the host at every product, so they are decoded there.
template <class D>
constexpr WeightStorage frozen_storage = std::is_same_v<D, Cpu> ? WeightStorage::in_file : WeightStorage::decoded;

/// How from_pretrained loads.
struct LoadSettings {
  bool trainable = true;  // every parameter may be trained (add_lora freezes them)
  /// in_file: linear maps, embedding, head and experts are no parameters but packed weights (frozen; LoRA may be
  /// added); needs trainable = false, and the file must stay as it is while the model lives. gpt-oss's transposed
  /// experts (bf16 directories) are decoded all the same.
  WeightStorage weights = WeightStorage::decoded;
};

/// How save_pretrained writes.
struct SaveSettings {
  std::string dtype;                                 // float32, bfloat16, float16; empty: as config().dtype says
  std::int64_t shard_bytes = std::int64_t{5} << 30;  // a file above this is split, with an index
};

/// How one training pass runs.
struct TrainingSettings {
  bool recompute = false;  // keep one tensor a layer and run the layer again in the backward pass
  double share =
      1;  // of the step that this batch is: multiplies the router policy's weights, so that split steps add up
};

/// Terms that a training pass adds to the objective where a model has routers; both 0 by default.
/// They are means over the tokens of the pass, times TrainingSettings::share.
struct RouterPolicy {
  double balance = 0;  // weight of the load-balancing term (RouterSums), transformers' router_aux_loss_coef
  double z = 0;        // weight of the mean squared log-sum-exp of the logits
};

/// What the routers did in the last training pass.
struct RouterReport {
  double balance = 0;  // unweighted; K when tokens are spread evenly. 0 where the policy weights neither term
  double z = 0;
};

/// h = x + attention(norm(x)); y = h + feed_forward(norm(h)). With norms of what is added (Gemma):
/// h = x + norm(attention(norm(x))); y = h + norm(feed_forward(norm(h))).
template <class D, class T>
struct DecoderBlock {
  std::unique_ptr<Parameter<T, D>> input_norm, post_norm;                      // [H], of what the two parts read
  std::unique_ptr<Parameter<T, D>> attention_out_norm, feed_forward_out_norm;  // [H] or null, of what they give
  SelfAttention<D, T> attention;
  std::unique_ptr<FeedForward<D, T>> feed_forward;

  Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const LayerContext<D, T>& context) const;
  /// q, k, v, o, then the feed-forward's.
  std::vector<Linear<D, T>*> linears() const;
  void append_parameters(std::vector<Parameter<T, D>*>& out) const;
};

/// A weight that a file has to hold for a model.
struct WeightSlot {
  std::string name;
  Shape shape;
  bool packable = false;  // Decoder::pack_weight takes it
};

/// A weight that is no parameter.
template <class D, class T>
struct PackedWeight {
  std::string name;
  Shape shape;
  const PackedMatrix<T, D>* matrix = nullptr;  // [rows, columns], experts one under the other
};

/// A causal language model on device D with scalar type T: embedding, layers of attention and feed-forward part, norm
/// and head. docs/design.md lists who calls what. One thread at a time; copies are not possible, share() gives a
/// frozen second one over the same memory.
template <class D, class T>
class Decoder {
 public:
  using device_type = D;
  using scalar_type = T;

  /// A Hugging Face directory (config.json, model.safetensors or its shards) or a GGUF file. Linear maps that a
  /// directory holds packed (PackedForm) keep their codes, in memory, as quantize_linear leaves them. FormatError,
  /// ConfigError or IoError name the file and the key; what is odd but harmless is in notes(). Defined in
  /// checkpoint/load.hpp.
  static Decoder from_pretrained(const std::string& path, const LoadSettings& settings = {});
  /// Random weights: N(0, initializer_range^2), biases 0, norms 1 (Gemma's, to which 1 is added: 0), by Philox from
  /// `seed`.
  static Decoder from_config(const DecoderConfig& config, std::uint64_t seed);

  Decoder(Decoder&&) noexcept = default;
  Decoder& operator=(Decoder&&) noexcept = default;

  const DecoderConfig& config() const { return config_; }
  std::int64_t vocab_size() const { return config_.vocab_size; }
  std::int64_t hidden_size() const { return config_.hidden_size; }
  /// What loading found odd: tensors that were ignored, a head beside a tied embedding.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Every parameter, LoRA factors included (named as in a PEFT file); the addresses stay. Packed weights are not
  /// parameters.
  std::vector<Parameter<T, D>*> parameters();
  /// The parameter of that name, or nullptr.
  Parameter<T, D>* find_parameter(std::string_view name);
  void set_trainable(bool trainable);
  void zero_gradients();
  /// For a compressed mixture with wrappers whose values will not change: the same function with each core multiplied
  /// once a token (SharedCoreMap::fold). Worth it from about 2 E r / (K - 1) tokens on: it takes a product a factor.
  /// Other models stay as they are. ConfigError where a core or factor is trained.
  void fold_cores();

  /// Hidden states [N, H] after the final norm; nothing is recorded.
  Tensor<T, D> forward(const TokenBatch& batch);
  /// The same; `observer` sees what enters each linear map, in the order in which they run.
  Tensor<T, D> forward(const TokenBatch& batch, LinearObserver<D, T>& observer);
  /// The same, recorded for one backward().
  Tensor<T, D> forward_training(const TokenBatch& batch, const TrainingSettings& settings = {});
  /// From d(objective)/d(hidden) [N, H]: adds to the gradients of the trainable parameters and frees what was recorded.
  void backward(View<const T, D> hidden_gradient);

  /// The matrix behind the logits: hidden x weight^T.
  HeadView<T, D> head() const;
  /// Ids from `ids` on are padding rows of the head: head() leaves them out of every softmax, and nothing is sampled
  /// from them. For a teacher and a student of one tokenizer whose heads are padded differently. ShapeError unless 1 <=
  /// ids <= vocab_size().
  void set_real_vocabulary(std::int64_t ids);
  /// Where the head is the embedding: gives it a tensor of its own with equal values; nothing else changes.
  void untie_head();
  /// The parameter whose gradient a loss must add to, or nullptr where the head is frozen.
  Parameter<T, D>* head_parameter();

  /// A cache for `sequences` slots of up to `capacity` tokens each.
  KvCache<T, D> make_cache(std::int64_t sequences, std::int64_t capacity) const;
  /// Document b of the batch continues slot slots[b] (distinct). Gives the hidden states [N, H] and keeps keys and
  /// values.
  Tensor<T, D> decode(KvCache<T, D>& cache, const TokenBatch& batch, std::span<const std::int32_t> slots);
  /// Sequences slots[b] (distinct) that go on with ids[b] by up to `steps` tokens each, for which their slots have
  /// room.
  DecodeState<D> begin_decoding(const KvCache<T, D>& cache, std::span<const std::int32_t> slots,
                                std::span<const std::int32_t> ids, std::int64_t steps);
  /// The same in the memory of `state`, which has a row for each of the slots: a graph that holds its steps stays
  /// right. Rows behind the first `sequences` are padding: they write behind what their slots hold, and these stay as
  /// they are.
  void continue_decoding(const KvCache<T, D>& cache, DecodeState<D>& state, std::span<const std::int32_t> slots,
                         std::span<const std::int32_t> ids, std::int64_t steps, std::int64_t sequences);
  /// Runs one token of each row: hidden states [N, H]. Nothing is copied from or to the host.
  Tensor<T, D> decode_step(KvCache<T, D>& cache, DecodeState<D>& state);
  /// What the work of decode_step depends on beside the state's rows: addresses of weights, tables and cache, and
  /// switches. A step that was recorded is right as long as this stays.
  std::vector<std::uintptr_t> step_dependencies(KvCache<T, D>& cache) const;
  /// Why a graph cannot hold steps of this model (weights that are decoded on the host, routing that is read after each
  /// pass), empty where it can.
  std::string step_capture_obstacle() const;

  /// Regularisers of the routers in training passes; without routers only zeros are taken (ConfigError).
  void set_router_policy(const RouterPolicy& policy);
  const RouterPolicy& router_policy() const { return router_policy_; }
  /// Waits for the device; pending_router_totals() gives what it is made of without waiting.
  RouterReport router_report() const;
  PendingRouterTotals<D> pending_router_totals() const { return router_sums_->template pending<T>(); }
  /// Trains or freezes the routers alone. Gradients still pass through a frozen router to the layers below.
  void set_routers_trainable(bool trainable);
  /// Experts of a mixture, 0 where the model has none.
  std::int64_t experts() const { return config_.mixtures() > 0 ? config_.moe.experts : 0; }
  /// Forward passes write their choices to `record` and follow `replay`; both are borrowed, nullptr ends it. decode()
  /// records, too. Trainers and generate(record_routing) set it for their own passes and end it.
  void set_routing(RoutingRecord* record, const RoutingRecord* replay = nullptr) {
    record_ = record, pending_record_ = nullptr, replay_ = replay;
  }
  /// The same with choices that stay on the device until the host reads them: passes are added to `record`.
  void set_pending_routing(PendingRouting<D>* record, const RoutingRecord* replay = nullptr) {
    record_ = nullptr, pending_record_ = record, replay_ = replay;
  }
  /// Where passes add their choices, or nullptr.
  PendingRouting<D>* pending_routing() const { return pending_record_; }

  /// LoRA on (the default) or off.
  void set_adapter_enabled(bool enabled) { adapter_enabled_ = enabled; }
  bool adapter_enabled() const { return adapter_enabled_; }
  bool has_adapter() const;

  /// config.json and model.safetensors with the names of transformers; packed weights are written decoded (save_packed
  /// keeps codes: checkpoint/packed_save.hpp). An adapter that is not merged is refused: merge_adapter(model) or
  /// save_adapter(model, directory) first. Defined in checkpoint/save.hpp.
  void save_pretrained(const std::string& directory, const SaveSettings& settings = {}) const;

  /// Where codes follow trained parameters (quantize_student), they are made again before the next pass whenever
  /// parameters() was asked for or backward() was called. Whoever changes values through pointers from before calls
  /// this.
  void parameters_changed() { codes_old_ = true; }
  /// Makes codes follow now; passes and save_pretrained call it.
  void refresh_codes() const;
  /// While held, passes use the codes of that moment: the micro-batches of a step change no parameter, so codes are
  /// made once for all of them. hold_codes(true) makes them follow first; after hold_codes(false) passes do so again.
  void hold_codes(bool held) {
    if (held) refresh_codes();
    codes_held_ = held;
  }

  /// A second, frozen model over the same memory, without LoRA (its own may be added, its linear maps may be
  /// quantised). Neither may train what they share.
  Decoder share() const;

  /// For add_lora, quantize_linear and loaders.
  std::vector<DecoderBlock<D, T>>& blocks() { return blocks_; }
  const std::vector<DecoderBlock<D, T>>& blocks() const { return blocks_; }
  /// Every linear map of every layer, in file order; no routers, no experts.
  std::vector<Linear<D, T>*> linears() const;
  /// The routers of the mixtures, in layer order.
  std::vector<Linear<D, T>*> routers() const;
  /// Everything that may carry LoRA factors: linears(), then routers().
  std::vector<Linear<D, T>*> adaptable() const;
  /// Every packed weight under the name and shape its parameter would have: linear maps, embedding, head, experts [E,
  /// out, in].
  std::vector<PackedWeight<D, T>> packed_weights() const;

  /// For loaders: a model whose parameters have names and shapes and no memory, so that a file can be compared with it
  /// first.
  static Decoder without_values(const DecoderConfig& config);
  /// Every weight by name and shape, in the order of parameters(): matrices of linear maps, embedding, head and experts
  /// are packable.
  std::vector<WeightSlot> weight_slots();
  /// Replaces a packable parameter by a matrix that is none. ConfigError: there is no such weight.
  void pack_weight(const std::string& name, std::shared_ptr<const PackedMatrix<T, D>> matrix);
  /// Where the weights came from, for messages; empty for random ones.
  const std::string& source() const { return source_; }
  void set_source(std::string path, std::vector<std::string> notes) {
    source_ = std::move(path), notes_ = std::move(notes);
  }

 private:
  Decoder() = default;
  void build();
  Var<T, D> embed(Tape<T, D>& tape, const TokenLayout<D>& layout);
  LayerContext<D, T> context_for(const TokenBatch& batch, std::span<const std::int64_t> past);
  LayerContext<D, T> context_of(TokenLayout<D> layout);
  Tensor<T, D> run_cached(KvCache<T, D>& cache, LayerContext<D, T>& context, CacheRanges<T> ranges);
  void ensure_rope(std::int64_t positions);
  Var<T, D> run(Tape<T, D>& tape, const LayerContext<D, T>& context, const TrainingSettings& settings);
  void record_choices();

  DecoderConfig config_;
  std::unique_ptr<Parameter<T, D>> embedding_, final_norm_, head_;            // head_ is null where tied
  std::shared_ptr<const PackedMatrix<T, D>> packed_embedding_, packed_head_;  // instead of embedding_ and head_
  std::vector<DecoderBlock<D, T>> blocks_;
  RopeTable<T, D> rope_, sliding_rope_;
  Tensor<T, D> norm_ones_;  // LayerContext::norm_ones
  bool adapter_enabled_ = true;
  mutable bool codes_old_ = false;    // parameters may have changed since refresh_codes()
  bool codes_held_ = false;           // hold_codes()
  std::int64_t real_vocabulary_ = 0;  // 0: all rows of the head
  std::string source_;
  std::vector<std::string> notes_;
  RouterPolicy router_policy_;
  std::unique_ptr<RouterSums<D>> router_sums_ = std::make_unique<RouterSums<D>>();  // the tape points to it
  RoutingRecord* record_ = nullptr;
  PendingRouting<D>* pending_record_ = nullptr;  // at most one of the two is set
  std::vector<Tensor<std::int32_t, D>> chosen_;  // by the routers of the pass that runs, where it is recorded
  const RoutingRecord* replay_ = nullptr;
  Tape<T, D> tape_;
  Var<T, D> result_;
};

/// Bytes of all weights as they lie, adapters apart: parameters in memory, packed weights in their format (in memory or
/// in the file).
template <class D, class T>
double weight_bytes(Decoder<D, T>& model);

KDLIB_NAMESPACE_END

#include "kdlib/model/decoder_inl.hpp"
#include "kdlib/model/packed_weights_inl.hpp"

#endif
