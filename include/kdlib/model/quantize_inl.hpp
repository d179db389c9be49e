// SPDX-License-Identifier: Apache-2.0
// Bodies of quantize.hpp.
#ifndef KDLIB_MODEL_QUANTIZE_INL_HPP
#define KDLIB_MODEL_QUANTIZE_INL_HPP

#include <cmath>

#include "kdlib/model/quantize.hpp"
#include "kdlib/quant/stored_matrix.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// Adds up what rounding did to one weight after the other.
template <class D, class T>
class RoundingSums {
 public:
  void add(const Tensor<gradient_t<T>, D>& weight, const PackedMatrix<T, D>& packed) {
    using C = gradient_t<T>;
    const Tensor<C, D> difference = widened(packed.decode_all());
    total_ += Kernels<D, C>::sum_squares(weight.data(), weight.count());
    Kernels<D, C>::axpy(weight.count(), C{-1}, weight.data(), difference.data());
    error_ += Kernels<D, C>::sum_squares(difference.data(), weight.count());
    report_.bytes += packed.bytes();
    report_.weights += weight.count();
    ++report_.matrices;
  }
  QuantizeReport report() const {
    QuantizeReport r = report_;
    r.mean_square_error = r.weights > 0 ? error_ / static_cast<double>(r.weights) : 0;
    r.relative_error = total_ > 0 ? std::sqrt(error_ / total_) : 0;
    return r;
  }

 private:
  QuantizeReport report_;
  double error_ = 0, total_ = 0;
};

/// `in_file`: weights that stay in their file will do.
template <class D, class T>
void check_not_packed(const Decoder<D, T>& model, const char* where, bool in_file = false) {
  require<ConfigError>(model.config().mixtures() == 0, where, "the experts of ", family_name(model.config().family),
                       " are not packed yet; dense models are");
  for (const Linear<D, T>* l : model.linears()) {
    const bool stored = dynamic_cast<const StoredMatrix<T, D>*>(l->packed().get()) != nullptr;
    require<ConfigError>(!stored || in_file, where, l->path, " stays in its file: load the model with decoded weights");
    require<ConfigError>(l->packed() == nullptr || stored, where, l->path, " is packed already");
    require<ConfigError>(!l->merged(), where, l->path,
                         " is merged with an adapter: unmerge_adapter or save and load first");
  }
}

/// Runs f; what it refuses about values gets the model and the tensor in front.
template <class D, class T, class F>
auto naming_tensor(const Decoder<D, T>& model, const Linear<D, T>& l, F&& f) {
  try {
    return f();
  } catch (const FormatError& error) {
    const std::string& source = model.source();
    fail<FormatError>(source, source.empty() ? "" : ": ", "tensor \"", l.path, ".weight\": ", error.what(),
                      source.empty() ? std::string() : concat("; `inspect ", source, " --check` lists such values"));
  }
}

/// W + s B A.
template <class D, class T>
Tensor<gradient_t<T>, D> with_adapter(Tensor<gradient_t<T>, D> weight, const LoraPair<D, T>& lora) {
  using C = gradient_t<T>;
  const Tensor<C, D> a = lora.a.trained_values(), b = lora.b.trained_values();
  Kernels<D, C>::gemm(false, false, weight[0], weight[1], lora.rank, static_cast<C>(lora.scale), b.data(), lora.rank,
                      a.data(), weight[1], C{1}, weight.data(), weight[1]);
  return weight;
}

}  // namespace detail

template <class D, class T>
QuantizeReport quantize_linear(Decoder<D, T>& model, const QuantizeSettings& settings) {
  check_quantize_settings(settings);
  detail::check_not_packed(model, "[quantize_linear] ", true);
  detail::RoundingSums<D, T> sums;
  for (Linear<D, T>* l : model.linears()) {
    const auto stored = l->packed();
    const auto weight = stored != nullptr ? widened(stored->decode_all()) : l->weight()->trained_values();
    const auto make = [&] { return std::make_shared<CodedMatrix<T, D>>(detail::encode_tensor(weight, settings)); };
    auto packed = detail::naming_tensor(model, *l, make);
    sums.add(weight, *packed);
    l->pack(std::move(packed));
  }
  return sums.report();
}

template <class D, class T>
QuantizeReport quantize_student(Decoder<D, T>& model, const QuantizeSettings& settings,
                                const StudentSettings& student) {
  check_quantize_settings(settings);
  detail::check_not_packed(model, "[quantize_student] ");
  require<ConfigError>(student.trains != TrainedPart::adapter || model.has_adapter(),
                       "[quantize_student] there is no adapter: add_lora(model) first");
  require<ConfigError>(student.trains == TrainedPart::adapter || !model.has_adapter(),
                       "[quantize_student] the model has an adapter, and ", trained_part_name(student.trains),
                       " are to be trained: remove_adapter(model) first");
  if (student.trains == TrainedPart::scales) model.set_trainable(false);
  detail::RoundingSums<D, T> sums;
  for (Linear<D, T>* l : model.linears()) {
    const auto weight = l->weight()->trained_values();
    detail::naming_tensor(model, *l, [&] {
      if (student.trains == TrainedPart::adapter && l->lora == nullptr)
        l->pack(std::make_shared<CodedMatrix<T, D>>(detail::encode_tensor(weight, settings)));
      else if (student.trains == TrainedPart::scales)
        l->begin_student(std::make_unique<QuantizedWeight<D, T>>(settings, l->path, *l->weight()));
      else
        l->begin_student(std::make_unique<QuantizedWeight<D, T>>(settings, student.trains, student.straight_through,
                                                                 *l->weight(), l->lora.get()));
    });
    sums.add(l->lora != nullptr ? detail::with_adapter(weight.clone(), *l->lora) : weight, *l->packed());
  }
  return sums.report();
}

template <class D, class T>
QuantizeReport merge_into_codes(Decoder<D, T>& model) {
  for (const Linear<D, T>* l : model.linears())
    require<ConfigError>(
        l->student() == nullptr &&
            (l->lora == nullptr || dynamic_cast<const CodedMatrix<T, D>*>(l->packed().get()) != nullptr),
        "[merge_into_codes] ", l->path, " is not an adapter on codes: merge_adapter(model) is for dense weights");
  require<ConfigError>(model.has_adapter(), "[merge_into_codes] the model has no adapter");
  detail::RoundingSums<D, T> sums;
  for (Linear<D, T>* l : model.linears()) {
    if (l->lora == nullptr) continue;
    const auto before = std::static_pointer_cast<const CodedMatrix<T, D>>(l->packed());
    const auto sum = detail::with_adapter(widened(before->decode_all()), *l->lora);
    auto packed = std::make_shared<CodedMatrix<T, D>>(detail::encode_tensor(sum, before->settings()));
    sums.add(sum, *packed);
    l->pack(std::move(packed));
    l->lora.reset();
  }
  return sums.report();
}

template <class D, class T>
void decode_linear(Decoder<D, T>& model) {
  for (Linear<D, T>* l : model.linears())
    if (const auto packed = l->packed()) l->set_dense(packed->decode_all());
}

KDLIB_NAMESPACE_END

#endif
