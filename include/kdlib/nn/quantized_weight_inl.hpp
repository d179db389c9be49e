// SPDX-License-Identifier: Apache-2.0
// Bodies of quantized_weight.hpp.
#ifndef KDLIB_NN_QUANTIZED_WEIGHT_INL_HPP
#define KDLIB_NN_QUANTIZED_WEIGHT_INL_HPP

#include "kdlib/nn/quantized_weight.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class D, class T>
std::vector<float> floats_of(const Tensor<T, D>& t) {
  const std::vector<T> host = host_copy<T, D>(t);
  return {host.begin(), host.end()};
}

template <class D, class T>
CodedData encode_tensor(const Tensor<T, D>& w, const QuantizeSettings& settings) {
  if constexpr (std::is_same_v<D, Cpu> && std::is_same_v<T, float>)
    return encode_weights(w.data(), w[0], w[1], settings);
  else return encode_weights(floats_of(w).data(), w[0], w[1], settings);
}

/// A trainable parameter [groups] of these values; no weight decay.
template <class D, class T>
std::unique_ptr<Parameter<T, D>> factor_parameter(std::string name, const std::vector<float>& values) {
  auto p = std::make_unique<Parameter<T, D>>();
  p->name = std::move(name);
  using C = gradient_t<T>;
  const std::vector<C> host(values.begin(), values.end());
  p->value = Tensor<T, D>(Shape{static_cast<std::int64_t>(host.size())});
  Memory<D>::from_host(p->values_to_write().data(), host.data(), host.size() * sizeof(C));
  p->values_changed();
  p->trainable = true;
  p->decays = false;
  return p;
}

}  // namespace detail

template <class D, class T>
QuantizedWeight<D, T>::QuantizedWeight(const QuantizeSettings& settings, TrainedPart trains, StraightThrough rule,
                                       Parameter<T, D>& weight, LoraPair<D, T>* lora)
    : settings_(settings), trains_(trains), rule_(rule), weight_(&weight), lora_(lora) {
  require<ConfigError>(rule == StraightThrough::identity || detail::is_integer_kind(settings.kind),
                       "[quantize] a clipped gradient belongs to int3, int4 and int8, not to ",
                       packed_kind_name(settings.kind));
  codes_ = std::make_shared<CodedMatrix<T, D>>(encode());
}

template <class D, class T>
QuantizedWeight<D, T>::QuantizedWeight(const QuantizeSettings& settings, const std::string& path,
                                       const Parameter<T, D>& weight)
    : settings_(settings), trains_(TrainedPart::scales) {
  const CodedData data = detail::encode_tensor<D, gradient_t<T>>(weight.trained_values(), settings);
  require<ConfigError>(!data.scale.empty(), "[quantize] the scales of ", describe(settings),
                       " are not numbers of their own and cannot be trained");
  require<ConfigError>(!data.crossing(), "[quantize] ", path, ": blocks of ", settings.group_size,
                       " cross the ends of rows of ", data.columns, "; their scales cannot be trained");
  codes_ = std::make_shared<CodedMatrix<T, D>>(data);
  scale_ = detail::factor_parameter<D, T>(path + ".weight.scale", data.scale);
  if (settings.rule == Int4Rule::affine) zero_ = detail::factor_parameter<D, T>(path + ".weight.zero", data.zero);
}

template <class D, class T>
CodedData QuantizedWeight<D, T>::encode() const {
  using C = gradient_t<T>;
  const Tensor<C, D> weight = weight_->trained_values();
  if (lora_ == nullptr) return detail::encode_tensor<D, C>(weight, settings_);
  // A copy in float of 16-bit values is ours already.
  const Tensor<C, D> sum = is_sixteen_bit<T> && !weight_->master ? weight : weight.clone();
  const Tensor<C, D> a = lora_->a.trained_values(), b = lora_->b.trained_values();
  const std::int64_t out = sum[0], in = sum[1];
  Kernels<D, C>::gemm(false, false, out, in, lora_->rank, static_cast<C>(lora_->scale), b.data(), lora_->rank, a.data(),
                      in, C{1}, sum.data(), in);
  return detail::encode_tensor<D, C>(sum, settings_);
}

template <class D, class T>
void QuantizedWeight<D, T>::refresh() {
  if (trains_ != TrainedPart::scales) return codes_->assign(encode());
  const std::vector<float> kept = settings_.rule == Int4Rule::asymmetric ? codes_->data().zero : std::vector<float>();
  using C = gradient_t<T>;
  codes_->assign_factors(detail::floats_of<D, C>(scale_->trained_values()),
                         zero_ != nullptr ? detail::floats_of<D, C>(zero_->trained_values()) : kept);
}

template <class D, class T>
void QuantizedWeight<D, T>::append_parameters(std::vector<Parameter<T, D>*>& out) {
  for (Parameter<T, D>* p : {scale_.get(), zero_.get()})
    if (p != nullptr) out.push_back(p);
}

template <class D, class T>
bool QuantizedWeight<D, T>::wanted() const {
  switch (trains_) {
    case TrainedPart::weights:
      return weight_->trainable;
    case TrainedPart::adapter:
      return lora_->a.trainable || lora_->b.trainable;
    default:
      return scale_->trainable || (zero_ != nullptr && zero_->trainable);
  }
}

template <class D, class T>
gradient_t<T>* QuantizedWeight<D, T>::target() {
  return trains_ == TrainedPart::weights && rule_ == StraightThrough::identity ? weight_->gradient_view().data()
                                                                               : nullptr;
}

template <class D, class T>
void QuantizedWeight<D, T>::add(std::int64_t begin, std::int64_t count, gradient_t<T>* gradient) {
  using C = gradient_t<T>;
  using K = Kernels<D, C>;
  const std::int64_t in = codes_->columns();
  const auto slot = [](Parameter<T, D>* p) {
    return p != nullptr && p->trainable ? p->gradient_view().data() : nullptr;
  };
  if (rule_ == StraightThrough::clipped) K::coded_clip_gradient(codes_->ranges(), begin, count, gradient);
  if (trains_ == TrainedPart::scales)
    return K::coded_factor_gradient(codes_->ranges(), begin, count, gradient, slot(scale_.get()), slot(zero_.get()));
  if (trains_ == TrainedPart::weights)
    return K::axpy(count * in, C{1}, gradient, weight_->gradient_view().data() + begin * in);
  const C s = static_cast<C>(lora_->scale);
  const std::int64_t rank = lora_->rank;
  if (C* a = slot(&lora_->a); a != nullptr)
    K::gemm(true, false, rank, in, count, s, lora_->b.trained_values().data() + begin * rank, rank, gradient, in, C{1},
            a, in);
  if (C* b = slot(&lora_->b); b != nullptr)
    K::gemm(false, true, count, rank, in, s, gradient, in, lora_->a.trained_values().data(), in, C{1}, b + begin * rank,
            rank);
}

KDLIB_NAMESPACE_END

#endif
