// SPDX-License-Identifier: Apache-2.0
// Construction, forward, backward and decoding of decoder.hpp. Reading and writing are in checkpoint/.
#ifndef KDLIB_MODEL_DECODER_INL_HPP
#define KDLIB_MODEL_DECODER_INL_HPP

#include <algorithm>
#include <cmath>
#include <tuple>

#include "kdlib/core/parallel.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class D, class T>
void fill_constant(Tensor<T, D>& tensor, T value) {
  const std::vector<T> values(static_cast<std::size_t>(tensor.count()), value);
  Memory<D>::from_host(tensor.data(), values.data(), values.size() * sizeof(T));
}

/// Memory for parameters that have none yet.
template <class D, class T>
void allocate_parameters(const std::vector<Parameter<T, D>*>& parameters) {
  for (Parameter<T, D>* p : parameters)
    if (!p->value) p->value = Tensor<T, D>(p->value.shape());
}

}  // namespace detail

template <class D, class T>
Var<T, D> DecoderBlock<D, T>::forward(Tape<T, D>& tape, const Var<T, D>& x, const LayerContext<D, T>& context) const {
  const auto norm = [&](const std::unique_ptr<Parameter<T, D>>& weight, const Var<T, D>& y) {
    return rms_norm(tape, *weight, y, context.norm_epsilon, context.norm_ones);
  };
  if (attention_out_norm != nullptr) {
    const Var<T, D> mixed = attention.forward(tape, norm(input_norm, x), nullptr, context);
    const Var<T, D> middle = add(tape, x, norm(attention_out_norm, mixed));
    const Var<T, D> y = feed_forward->forward(tape, norm(post_norm, middle), nullptr, context);
    return add(tape, middle, norm(feed_forward_out_norm, y));
  }
  const Var<T, D> middle = attention.forward(tape, norm(input_norm, x), &x, context);
  return feed_forward->forward(tape, norm(post_norm, middle), &middle, context);
}

template <class D, class T>
std::vector<Linear<D, T>*> DecoderBlock<D, T>::linears() const {
  auto& a = const_cast<SelfAttention<D, T>&>(attention);  // the list is handed out by const and non-const models alike
  std::vector<Linear<D, T>*> list = {&a.q, &a.k, &a.v, &a.o};
  for (Linear<D, T>* l : feed_forward->linears()) list.push_back(l);
  return list;
}

template <class D, class T>
void DecoderBlock<D, T>::append_parameters(std::vector<Parameter<T, D>*>& list) const {
  list.push_back(input_norm.get());
  for (const Linear<D, T>* l : {&attention.q, &attention.k, &attention.v, &attention.o}) l->append_parameters(list);
  feed_forward->append_parameters(list);
  for (Parameter<T, D>* p : {attention.q_norm.get(), attention.k_norm.get(), attention.sinks.get(),
                             attention_out_norm.get(), post_norm.get(), feed_forward_out_norm.get()})
    if (p != nullptr) list.push_back(p);
}

template <class D, class T>
std::vector<Linear<D, T>*> Decoder<D, T>::linears() const {
  std::vector<Linear<D, T>*> list;
  for (const DecoderBlock<D, T>& block : blocks_)
    for (Linear<D, T>* l : block.linears()) list.push_back(l);
  return list;
}

template <class D, class T>
std::vector<Linear<D, T>*> Decoder<D, T>::routers() const {
  std::vector<Linear<D, T>*> list;
  for (const DecoderBlock<D, T>& block : blocks_)
    for (Linear<D, T>* l : block.feed_forward->routers()) list.push_back(l);
  return list;
}

template <class D, class T>
std::vector<Linear<D, T>*> Decoder<D, T>::adaptable() const {
  std::vector<Linear<D, T>*> list = linears();
  for (Linear<D, T>* l : routers()) list.push_back(l);
  return list;
}

template <class D, class T>
void Decoder<D, T>::build() {
  const DecoderConfig& c = config_;
  const std::int64_t h = c.hidden_size, q = c.query_heads * c.head_size, kv = c.kv_heads * c.head_size;
  embedding_ = detail::make_parameter<D, T>("model.embed_tokens.weight", Shape{c.vocab_size, h});
  blocks_.clear();
  std::int64_t mixture = 0;
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = concat("model.layers.", i), attention = layer + ".self_attn";
    DecoderBlock<D, T>& b = blocks_.emplace_back();
    const auto norm = [&](const char* name) { return detail::make_parameter<D, T>(layer + name, Shape{h}); };
    b.input_norm = norm(".input_layernorm.weight");
    b.post_norm = norm(c.is_gemma() ? ".pre_feedforward_layernorm.weight" : ".post_attention_layernorm.weight");
    if (c.is_gemma()) {
      b.attention_out_norm = norm(".post_attention_layernorm.weight");
      b.feed_forward_out_norm = norm(".post_feedforward_layernorm.weight");
    }
    b.attention.q = Linear<D, T>(attention + ".q_proj", h, q, c.biases.q);
    b.attention.k = Linear<D, T>(attention + ".k_proj", h, kv, c.biases.k);
    b.attention.v = Linear<D, T>(attention + ".v_proj", h, kv, c.biases.v);
    b.attention.o = Linear<D, T>(attention + ".o_proj", q, h, c.biases.o);
    if (c.head_norm()) {
      b.attention.q_norm = detail::make_parameter<D, T>(attention + ".q_norm.weight", Shape{c.head_size});
      b.attention.k_norm = detail::make_parameter<D, T>(attention + ".k_norm.weight", Shape{c.head_size});
    }
    b.attention.heads = {c.query_heads, c.kv_heads, c.head_size, c.window(i), c.attention_scale(), c.attention_softcap};
    b.attention.sliding_rope = c.sliding_rope && c.window(i) > 0;
    if (c.has_sinks()) b.attention.sinks = detail::make_parameter<D, T>(attention + ".sinks", Shape{c.query_heads});
    if (c.is_sparse(i)) b.feed_forward = std::make_unique<ExpertFeedForward<D, T>>(layer + ".mlp", h, c.moe, mixture++);
    else
      b.feed_forward = std::make_unique<GatedFeedForward<D, T>>(
          layer + ".mlp", h, c.intermediate_size, FeedForwardBias{c.biases.gate, c.biases.up, c.biases.down},
          c.is_gemma() ? GateActivation::gelu_tanh : GateActivation::silu);
  }
  final_norm_ = detail::make_parameter<D, T>("model.norm.weight", Shape{h});
  if (!c.tied_head) head_ = detail::make_parameter<D, T>("lm_head.weight", Shape{c.vocab_size, h});
}

template <class D, class T>
Decoder<D, T> Decoder<D, T>::without_values(const DecoderConfig& config) {
  Decoder model;
  model.config_ = config;
  model.build();
  return model;
}

template <class D, class T>
Decoder<D, T> Decoder<D, T>::from_config(const DecoderConfig& config, std::uint64_t seed) {
  config.check("from_config");
  Decoder model = without_values(config);
  std::uint32_t row = 0;
  detail::allocate_parameters<D, T>(model.parameters());
  for (Parameter<T, D>* p : model.parameters()) {
    check_stop();
    const bool bias = p->name.ends_with(".bias") || p->name.ends_with("_proj_bias");
    if ((p->value.shape().rank() > 1 && !bias) || p->name.ends_with(".sinks"))
      Kernels<D, T>::fill_normal(p->value.count(), config.initializer_range, seed, row, p->value.data());
    else detail::fill_constant(p->value, bias || config.is_gemma() ? T{0} : T{1});
    p->trainable = true;
    ++row;
  }
  return model;
}

template <class D, class T>
std::vector<Parameter<T, D>*> Decoder<D, T>::parameters() {
  codes_old_ = true;  // whoever asks may change them
  std::vector<Parameter<T, D>*> list;
  if (embedding_ != nullptr) list.push_back(embedding_.get());
  for (const DecoderBlock<D, T>& b : blocks_) b.append_parameters(list);
  list.push_back(final_norm_.get());
  if (head_ != nullptr) list.push_back(head_.get());
  return list;
}

template <class D, class T>
Parameter<T, D>* Decoder<D, T>::find_parameter(std::string_view name) {
  for (Parameter<T, D>* p : parameters())
    if (p->name == name) return p;
  return nullptr;
}

template <class D, class T>
void Decoder<D, T>::refresh_codes() const {
  if (!std::exchange(codes_old_, false)) return;
  for (const Linear<D, T>* l : linears())
    if (l->student() != nullptr) l->student()->refresh();
}

template <class D, class T>
void Decoder<D, T>::set_trainable(bool trainable) {
  for (Parameter<T, D>* p : parameters()) p->trainable = trainable;
}

template <class D, class T>
void Decoder<D, T>::fold_cores() {
  for (DecoderBlock<D, T>& b : blocks_)
    if (auto* mixture = dynamic_cast<ExpertFeedForward<D, T>*>(b.feed_forward.get()))
      if (mixture->cores() != nullptr) mixture->cores()->fold();
}

template <class D, class T>
void Decoder<D, T>::zero_gradients() {
  for (Parameter<T, D>* p : parameters()) p->zero_gradient();
}

template <class D, class T>
bool Decoder<D, T>::has_adapter() const {
  for (const Linear<D, T>* l : adaptable())
    if (l->lora != nullptr) return true;
  return false;
}

template <class D, class T>
void Decoder<D, T>::ensure_rope(std::int64_t positions) {
  if (rope_.cosine && rope_.cosine[0] >= positions) return;
  std::int64_t size = 256;
  while (size < positions) size *= 2;
  rope_ = make_rope_table<D, T>(config_.rope, config_.head_size, size);
  if (config_.sliding_rope) sliding_rope_ = make_rope_table<D, T>(*config_.sliding_rope, config_.head_size, size);
}

template <class D, class T>
LayerContext<D, T> Decoder<D, T>::context_for(const TokenBatch& batch, std::span<const std::int64_t> past) {
  if (!codes_held_) refresh_codes();
  batch.check(config_.vocab_size);
  require<InputError>(batch.tokens() > 0, "[decoder] the batch holds no tokens");
  std::vector<std::int32_t> positions = batch.positions;
  if (positions.empty()) {
    positions.reserve(batch.ids.size());
    for (std::int64_t b = 0; b < batch.documents(); ++b)
      for (std::int64_t i = 0; i < batch.length(b); ++i)
        positions.push_back(static_cast<std::int32_t>(i + (past.empty() ? 0 : past[static_cast<std::size_t>(b)])));
  }
  const auto [low, high] = std::minmax_element(positions.begin(), positions.end());
  require<InputError>(*low >= 0, "[decoder] position ", *low, " is negative");
  ensure_rope(std::int64_t{*high} + 1);
  TokenLayout<D> layout;
  std::tie(layout.ids, layout.positions, layout.offsets) = upload_together<D>(batch.ids, positions, batch.offsets);
  layout.documents = batch.documents();
  std::tie(layout.shortest, layout.longest) = batch.length_range();
  return context_of(std::move(layout));
}

/// What the layers share over tokens that are on the device.
template <class D, class T>
LayerContext<D, T> Decoder<D, T>::context_of(TokenLayout<D> layout) {
  LayerContext<D, T> context;
  context.layout = std::move(layout);
  context.rope = rope_;
  context.sliding_rope = sliding_rope_;
  context.norm_epsilon = config_.norm_epsilon;
  if (config_.is_gemma() && !norm_ones_) {
    norm_ones_ = Tensor<T, D>(Shape{std::max(config_.hidden_size, config_.head_size)});
    detail::fill_constant(norm_ones_, T{1});
  }
  context.norm_ones = norm_ones_;
  context.adapter = adapter_enabled_;
  chosen_.clear();
  context.chosen = record_ != nullptr || pending_record_ != nullptr ? &chosen_ : nullptr;
  context.replay = replay_;
  if (replay_ != nullptr)
    require<InputError>(static_cast<std::int64_t>(replay_->ids.size()) == config_.mixtures(),
                        "[decoder] the routing to replay is for ", replay_->ids.size(),
                        " layers with routers; the model has ", config_.mixtures());
  if (record_ != nullptr) {
    require<ConfigError>(record_ != replay_, "[set_routing] record and replay are the same object");
    *record_ = RoutingRecord();
  }
  return context;
}

template <class D, class T>
Var<T, D> Decoder<D, T>::run(Tape<T, D>& tape, const LayerContext<D, T>& context, const TrainingSettings& settings) {
  Var<T, D> h = embed(tape, context.layout);
  for (const DecoderBlock<D, T>& block : blocks_) {
    if (!settings.recompute || !tape.recording()) {
      h = block.forward(tape, h, context);
      continue;
    }
    std::vector<Parameter<T, D>*> parameters;
    block.append_parameters(parameters);
    const bool trains = std::any_of(parameters.begin(), parameters.end(), [&context](const Parameter<T, D>* p) {
      return p->trainable && (context.adapter || !p->name.starts_with("base_model."));
    });
    h = kdlib::recompute(tape, h, trains,
                         [&block, own = LayerContext<D, T>(context)](Tape<T, D>& t, const Var<T, D>& x) mutable {
                           const Var<T, D> y = block.forward(t, x, own);
                           own.chosen = nullptr;  // the second run chooses the same
                           return y;
                         });
  }
  record_choices();
  return rms_norm(tape, *final_norm_, h, config_.norm_epsilon, context.norm_ones);
}

template <class D, class T>
Tensor<T, D> Decoder<D, T>::forward(const TokenBatch& batch) {
  Tape<T, D> tape(false);
  return run(tape, context_for(batch, {}), {}).value;
}

template <class D, class T>
Tensor<T, D> Decoder<D, T>::forward(const TokenBatch& batch, LinearObserver<D, T>& observer) {
  Tape<T, D> tape(false);
  LayerContext<D, T> context = context_for(batch, {});
  context.observer = &observer;
  return run(tape, context, {}).value;
}

template <class D, class T>
Tensor<T, D> Decoder<D, T>::forward_training(const TokenBatch& batch, const TrainingSettings& settings) {
  tape_.clear();
  LayerContext<D, T> context = context_for(batch, {});
  router_sums_->balance_weight = router_policy_.balance * settings.share;
  router_sums_->z_weight = router_policy_.z * settings.share;
  router_sums_->begin(config_.mixtures());
  context.sums = router_sums_.get();
  result_ = run(tape_, context, settings);
  return result_.value;
}

template <class D, class T>
void Decoder<D, T>::backward(View<const T, D> hidden_gradient) {
  require<ShapeError>(result_.requires_gradient(),
                      "[Decoder::backward] there is nothing to go back through: call forward_training first, with a "
                      "trainable parameter");
  Tensor<T, D> gradient(hidden_gradient.shape());
  Memory<D>::copy(gradient.data(), hidden_gradient.data(), static_cast<std::size_t>(gradient.bytes()));
  const Var<T, D> result = std::exchange(result_, Var<T, D>());
  codes_old_ = true;  // an optimiser comes next
  tape_.backward(result, std::move(gradient));
}

template <class D, class T>
HeadView<T, D> Decoder<D, T>::head() const {
  HeadView<T, D> view;
  view.packed = config_.tied_head ? packed_embedding_.get() : packed_head_.get();
  if (view.packed != nullptr)
    view.weight = View<const T, D>(nullptr, Shape{view.packed->rows(), view.packed->columns()});
  else view.weight = std::as_const(head_ != nullptr ? head_->value : embedding_->value).view();
  view.softcap = static_cast<float>(config_.final_softcap);
  view.real_vocabulary = real_vocabulary_ > 0 ? real_vocabulary_ : config_.vocab_size;
  return view;
}

template <class D, class T>
void Decoder<D, T>::set_real_vocabulary(std::int64_t ids) {
  require<ShapeError>(ids >= 1 && ids <= config_.vocab_size, "[set_real_vocabulary] ", ids, " ids; the head has ",
                      config_.vocab_size, " rows");
  real_vocabulary_ = ids;
}

template <class D, class T>
void Decoder<D, T>::untie_head() {
  if (!config_.tied_head) return;
  require<ConfigError>(packed_embedding_ == nullptr,
                       "[untie_head] the model's matrices stay in their file; load it with decoded weights");
  head_ = detail::make_parameter<D, T>("lm_head.weight", embedding_->value.shape());
  head_->value = embedding_->value.clone();
  head_->trainable = embedding_->trainable;
  config_.tied_head = false;
}

template <class D, class T>
Parameter<T, D>* Decoder<D, T>::head_parameter() {
  Parameter<T, D>* p = config_.tied_head ? embedding_.get() : head_.get();
  return p != nullptr && p->trainable ? p : nullptr;
}

KDLIB_NAMESPACE_END

#include "kdlib/model/decoder_cache_inl.hpp"
#include "kdlib/model/decoder_routing_inl.hpp"

#endif
