// SPDX-License-Identifier: Apache-2.0
// One decoder-only transformer for Llama (SmolLM2), Mistral, Qwen2, Qwen3, Qwen2-MoE, Qwen3-MoE, gpt-oss, Gemma 2 and
// Gemma 3: forward pass, training, decoding with a cache. checkpoint/ reads and writes the files.
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

/// Where the matrices of a loaded model are stored.
enum class WeightStorage : std::uint8_t {
  decoded,  // every matrix in memory, in the model's scalar type
  in_file   // matrices stay in the mapped file, in its format, and are decoded where a product needs them
};

/// The best storage for the frozen matrices of a model on D. On the CPU the matrices stay in their file. On a device
/// with its own memory every product would wait for the host, so they are decoded there.
template <class D>
constexpr WeightStorage frozen_storage = std::is_same_v<D, Cpu> ? WeightStorage::in_file : WeightStorage::decoded;

/// How from_pretrained loads a model.
struct LoadSettings {
  bool trainable = true;  // every parameter may be trained (add_lora freezes them)
  /// With in_file, linear maps, embedding, head and experts are not parameters but packed weights. They are frozen;
  /// LoRA may be added. in_file needs trainable = false, and the file must not change while the model lives. The
  /// transposed experts of gpt-oss (bf16 directories) are decoded nevertheless.
  WeightStorage weights = WeightStorage::decoded;
};

/// How save_pretrained writes a model.
struct SaveSettings {
  std::string dtype;                                 // float32, bfloat16 or float16; empty: config().dtype
  std::int64_t shard_bytes = std::int64_t{5} << 30;  // a larger model is split into several files, with an index
};

/// How one training pass runs.
struct TrainingSettings {
  bool recompute = false;  // keep one tensor a layer and run the layer again in the backward pass
  /// The share of the step that this batch is. It multiplies the weights of the router policy, so that the parts of a
  /// split step add up.
  double share = 1;
};

/// Weights of two terms that a training pass adds to the objective of a model with routers. The terms are means over
/// the tokens of the pass, multiplied by TrainingSettings::share. Both weights are 0 by default.
struct RouterPolicy {
  double balance = 0;  // weight of the load-balancing term (RouterSums); transformers calls it router_aux_loss_coef
  double z = 0;        // weight of the mean squared log-sum-exp of the router's logits
};

/// The terms of the last training pass, without their weights.
struct RouterReport {
  /// K if tokens are spread evenly over the experts. 0 if both weights of the policy are 0.
  double balance = 0;
  double z = 0;
};

/// One layer: h = x + attention(norm(x)); y = h + feed_forward(norm(h)). Gemma has norms behind the two parts, too: h =
/// x + norm(attention(norm(x))); y = h + norm(feed_forward(norm(h))).
template <class D, class T>
struct DecoderBlock {
  /// [H], the norms in front of attention and of the feed-forward part.
  std::unique_ptr<Parameter<T, D>> input_norm, post_norm;
  /// [H] or null, the norms behind attention and behind the feed-forward part.
  std::unique_ptr<Parameter<T, D>> attention_out_norm, feed_forward_out_norm;
  SelfAttention<D, T> attention;
  std::unique_ptr<FeedForward<D, T>> feed_forward;

  Var<T, D> forward(Tape<T, D>& tape, const Var<T, D>& x, const LayerContext<D, T>& context) const;
  /// Returns the maps q, k, v and o, then those of the feed-forward part.
  std::vector<Linear<D, T>*> linears() const;
  void append_parameters(std::vector<Parameter<T, D>*>& out) const;
};

/// A weight that the file of a model must hold.
struct WeightSlot {
  std::string name;
  Shape shape;
  bool packable = false;  // true if Decoder::pack_weight takes the weight
};

/// A weight that is not a parameter but a packed matrix.
template <class D, class T>
struct PackedWeight {
  std::string name;
  Shape shape;
  const PackedMatrix<T, D>* matrix = nullptr;  // [rows, columns]; experts lie one under the other
};

/// A causal language model on device D with scalar type T: embedding, layers of attention and feed-forward part, norm
/// and head. docs/design.md lists which part calls which. One thread may use a model at a time. A model cannot be
/// copied; share() gives a second, frozen model over the same memory.
template <class D, class T>
class Decoder {
 public:
  using device_type = D;
  using scalar_type = T;

  /// Loads a Hugging Face directory (config.json, model.safetensors or its shards) or a GGUF file. If a directory holds
  /// packed linear maps (PackedForm), their codes stay in memory, as quantize_linear leaves them. Throws FormatError,
  /// ConfigError or IoError, which name the file and the key. notes() tells what is odd but harmless. Defined in
  /// checkpoint/load.hpp.
  static Decoder from_pretrained(const std::string& path, const LoadSettings& settings = {});
  /// Makes a model with random weights by Philox from `seed`: matrices from N(0, initializer_range^2), biases 0, norms
  /// 1 (Gemma adds 1 to its norms, so they are 0).
  static Decoder from_config(const DecoderConfig& config, std::uint64_t seed);

  Decoder(Decoder&&) noexcept = default;
  Decoder& operator=(Decoder&&) noexcept = default;

  const DecoderConfig& config() const { return config_; }
  std::int64_t vocab_size() const { return config_.vocab_size; }
  std::int64_t hidden_size() const { return config_.hidden_size; }
  /// What loading found odd, such as tensors that were ignored or a head beside a tied embedding.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Returns every parameter, LoRA factors (named as in a PEFT file) included. The addresses stay the same. Packed
  /// weights are not parameters.
  std::vector<Parameter<T, D>*> parameters();
  /// Returns the parameter of that name, or nullptr.
  Parameter<T, D>* find_parameter(std::string_view name);
  void set_trainable(bool trainable);
  void zero_gradients();
  /// Rewrites a compressed mixture with wrappers so that each core is multiplied once a token and not once for each
  /// chosen expert (SharedCoreMap::fold). The function stays the same; the values must not change afterwards. Folding
  /// takes one product for each factor, so it pays off from about 2 E r / (K - 1) tokens on. Other models are not
  /// changed. Throws ConfigError if a core or factor is trained.
  void fold_cores();

  /// Returns hidden states [N, H] after the final norm. Nothing is recorded for a backward pass.
  Tensor<T, D> forward(const TokenBatch& batch);
  /// The same; `observer` is given the input of each linear map, in the order in which the maps run.
  Tensor<T, D> forward(const TokenBatch& batch, LinearObserver<D, T>& observer);
  /// The same, recorded for one call of backward().
  Tensor<T, D> forward_training(const TokenBatch& batch, const TrainingSettings& settings = {});
  /// Takes the gradient of the objective by the hidden states, [N, H]; adds to the gradients of the trainable
  /// parameters and frees what was recorded. Throws ShapeError if there is no recorded pass.
  void backward(View<const T, D> hidden_gradient);

  /// The matrix behind the logits, which are hidden x weight^T.
  HeadView<T, D> head() const;
  /// Declares that ids from `ids` on are padding rows of the head: head() leaves them out of every softmax, and they
  /// are never sampled. Use it for a teacher and a student that have one tokenizer but differently padded heads. Throws
  /// ShapeError unless 1 <= ids <= vocab_size().
  void set_real_vocabulary(std::int64_t ids);
  /// If the head is the embedding, gives the head its own tensor with equal values. Throws ConfigError if the embedding
  /// is packed.
  void untie_head();
  /// Returns the parameter whose gradient a loss must add to, or nullptr if the head is frozen.
  Parameter<T, D>* head_parameter();

  /// Makes a cache with `sequences` slots of up to `capacity` tokens each.
  KvCache<T, D> make_cache(std::int64_t sequences, std::int64_t capacity) const;
  /// Document b of the batch continues slot slots[b]; each slot is named once. Returns the hidden states [N, H] and
  /// keeps keys and values in the cache. Throws InputError if the tokens do not fit into a slot.
  Tensor<T, D> decode(KvCache<T, D>& cache, const TokenBatch& batch, std::span<const std::int32_t> slots);
  /// Prepares steps in which sequence b, in slot slots[b], continues with token ids[b]. Each slot is named once and
  /// must have room for `steps` more tokens.
  DecodeState<D> begin_decoding(const KvCache<T, D>& cache, std::span<const std::int32_t> slots,
                                std::span<const std::int32_t> ids, std::int64_t steps);
  /// Does the same in the memory of `state`, which must have one row for each slot, so a recorded graph that uses
  /// `state` stays valid. Only the first `sequences` rows are sequences. The other rows are padding: they write behind
  /// the tokens that their slots hold, and those tokens stay as they are.
  void continue_decoding(const KvCache<T, D>& cache, DecodeState<D>& state, std::span<const std::int32_t> slots,
                         std::span<const std::int32_t> ids, std::int64_t steps, std::int64_t sequences);
  /// Runs one token of each row and returns hidden states [N, H]. Nothing is copied from or to the host.
  Tensor<T, D> decode_step(KvCache<T, D>& cache, DecodeState<D>& state);
  /// Returns what decode_step depends on apart from the rows of the state: addresses of weights, tables and cache, and
  /// switches. A recorded step stays valid as long as this list stays equal.
  std::vector<std::uintptr_t> step_dependencies(KvCache<T, D>& cache) const;
  /// Returns why a graph cannot hold steps of this model (weights that the host decodes, routing that the host reads
  /// after each pass). Empty if a graph can.
  std::string step_capture_obstacle() const;

  /// Sets the weights of the routers' terms in training passes. Throws ConfigError if the model has no routers and a
  /// weight is not 0, or if a weight is negative.
  void set_router_policy(const RouterPolicy& policy);
  const RouterPolicy& router_policy() const { return router_policy_; }
  /// Waits for the device. pending_router_totals() gives the same sums without a wait.
  RouterReport router_report() const;
  PendingRouterTotals<D> pending_router_totals() const { return router_sums_->template pending<T>(); }
  /// Trains or freezes the routers alone. Gradients still pass through a frozen router to the layers below it.
  void set_routers_trainable(bool trainable);
  /// Number of experts of a mixture, or 0 if the model has no mixture.
  std::int64_t experts() const { return config_.mixtures() > 0 ? config_.moe.experts : 0; }
  /// From now on forward passes write the choices of the routers into `record` and follow the choices in `replay`. Both
  /// are borrowed; nullptr ends it. decode() records, too. Trainers and generate() with record_routing set and end this
  /// for their own passes.
  void set_routing(RoutingRecord* record, const RoutingRecord* replay = nullptr) {
    record_ = record, pending_record_ = nullptr, replay_ = replay;
  }
  /// The same with choices that stay on the device until the host reads them. Each pass is added to `record`.
  void set_pending_routing(PendingRouting<D>* record, const RoutingRecord* replay = nullptr) {
    record_ = nullptr, pending_record_ = record, replay_ = replay;
  }
  /// The object to which passes add their choices, or nullptr.
  PendingRouting<D>* pending_routing() const { return pending_record_; }

  /// Switches LoRA on (the default) or off.
  void set_adapter_enabled(bool enabled) { adapter_enabled_ = enabled; }
  bool adapter_enabled() const { return adapter_enabled_; }
  bool has_adapter() const;

  /// Writes config.json and model.safetensors with the names of transformers. Packed weights are written decoded
  /// (save_packed keeps codes: checkpoint/packed_save.hpp). Refuses an adapter that is not merged: call
  /// merge_adapter(model) or save_adapter(model, directory) first. Defined in checkpoint/save.hpp.
  void save_pretrained(const std::string& directory, const SaveSettings& settings = {}) const;

  /// If the model has codes that follow trained parameters (quantize_student), they are made again before the next pass
  /// whenever parameters() or backward() was called. Code that changes values through older pointers must call this
  /// function.
  void parameters_changed() { codes_old_ = true; }
  /// Makes such codes again now if parameters may have changed. Passes and save_pretrained call this.
  void refresh_codes() const;
  /// While codes are held, passes do not make them again. The micro-batches of a step change no parameter, so one set
  /// of codes serves all of them. hold_codes(true) refreshes the codes first; after hold_codes(false) passes refresh
  /// them again.
  void hold_codes(bool held) {
    if (held) refresh_codes();
    codes_held_ = held;
  }

  /// Returns a second, frozen model over the same memory, without LoRA. It may get its own adapter, and its linear maps
  /// may be quantised. Neither model may train the weights that both share.
  Decoder share() const;

  /// The layers, for add_lora, quantize_linear and loaders.
  std::vector<DecoderBlock<D, T>>& blocks() { return blocks_; }
  const std::vector<DecoderBlock<D, T>>& blocks() const { return blocks_; }
  /// Every linear map of every layer in the order of the file, without routers and experts.
  std::vector<Linear<D, T>*> linears() const;
  /// The routers of the mixtures, in layer order.
  std::vector<Linear<D, T>*> routers() const;
  /// Every map that may have LoRA factors: linears(), then routers().
  std::vector<Linear<D, T>*> adaptable() const;
  /// Every packed weight under the name and shape that its parameter would have: linear maps, embedding, head, experts
  /// [E, out, in].
  std::vector<PackedWeight<D, T>> packed_weights() const;

  /// For loaders: a model whose parameters have names and shapes but no memory, so that a file can be checked against
  /// the model first.
  static Decoder without_values(const DecoderConfig& config);
  /// Every weight by name and shape, in the order of parameters(). The matrices of linear maps, embedding, head and
  /// experts are packable.
  std::vector<WeightSlot> weight_slots();
  /// Replaces a packable parameter by `matrix`, which is not a parameter. Throws ConfigError if there is no such
  /// weight.
  void pack_weight(const std::string& name, std::shared_ptr<const PackedMatrix<T, D>> matrix);
  /// The path that the weights came from, for messages. Empty for random weights.
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
  std::unique_ptr<Parameter<T, D>> embedding_, final_norm_, head_;  // head_ is null if the head is the embedding
  std::shared_ptr<const PackedMatrix<T, D>> packed_embedding_, packed_head_;  // instead of embedding_ and head_
  std::vector<DecoderBlock<D, T>> blocks_;
  RopeTable<T, D> rope_, sliding_rope_;
  Tensor<T, D> norm_ones_;  // LayerContext::norm_ones
  bool adapter_enabled_ = true;
  mutable bool codes_old_ = false;    // parameters may have changed since refresh_codes()
  bool codes_held_ = false;           // hold_codes()
  std::int64_t real_vocabulary_ = 0;  // 0: all rows of the head count
  std::string source_;
  std::vector<std::string> notes_;
  RouterPolicy router_policy_;
  std::unique_ptr<RouterSums<D>> router_sums_ = std::make_unique<RouterSums<D>>();  // the tape points to it
  RoutingRecord* record_ = nullptr;
  PendingRouting<D>* pending_record_ = nullptr;  // at most one of the two is set
  std::vector<Tensor<std::int32_t, D>> chosen_;  // by the routers of the running pass, if recorded
  const RoutingRecord* replay_ = nullptr;
  Tape<T, D> tape_;
  Var<T, D> result_;
};

/// Bytes of all weights as stored, without adapters: parameters in memory, packed weights in their format (in memory or
/// in the file).
template <class D, class T>
double weight_bytes(Decoder<D, T>& model);

KDLIB_NAMESPACE_END

#include "kdlib/model/decoder_inl.hpp"
#include "kdlib/model/packed_weights_inl.hpp"

#endif
