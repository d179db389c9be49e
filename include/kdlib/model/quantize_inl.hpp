// SPDX-License-Identifier: Apache-2.0
// Bodies of quantize.hpp.
#ifndef KDLIB_MODEL_QUANTIZE_INL_HPP
#define KDLIB_MODEL_QUANTIZE_INL_HPP

#include <cmath>

#include "kdlib/model/quantize.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
QuantizeReport quantize_linear(Decoder<D, T>& model, const QuantizeSettings& settings) {
  check_quantize_settings(settings);
  require<ConfigError>(model.config().mixtures() == 0, "[quantize_linear] the experts of ", family_name(model.config().family),
                       " are not packed yet; dense models are");
  for (const Linear<D, T>* l : model.linears()) {
    require<ConfigError>(l->packed == nullptr, "[quantize_linear] ", l->path, " is packed already");
    require<ConfigError>(!l->merged(), "[quantize_linear] ", l->path, " is merged with an adapter: unmerge_adapter or save and load first");
  }
  QuantizeReport report;
  double error = 0, total = 0;
  for (Linear<D, T>* l : model.linears()) {
    const std::int64_t n = l->out * l->in;
    std::vector<T> host(static_cast<std::size_t>(n));
    Memory<D>::to_host(host.data(), l->weight->value.data(), host.size() * sizeof(T));
    const std::vector<float> weight(host.begin(), host.end());
    auto packed = std::make_shared<CodedMatrix<T, D>>(encode_weights(weight.data(), l->out, l->in, settings));
    Tensor<T, D> difference = packed->decode_all();
    total += Kernels<D, T>::sum_squares(l->weight->value.data(), n);
    Kernels<D, T>::axpy(n, T{-1}, l->weight->value.data(), difference.data());
    error += Kernels<D, T>::sum_squares(difference.data(), n);
    report.bytes += packed->bytes();
    report.weights += n;
    ++report.matrices;
    l->packed = std::move(packed);
    l->weight.reset();
  }
  report.mean_square_error = report.weights > 0 ? error / static_cast<double>(report.weights) : 0;
  report.relative_error = total > 0 ? std::sqrt(error / total) : 0;
  return report;
}

KDLIB_NAMESPACE_END

#endif
