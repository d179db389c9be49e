// SPDX-License-Identifier: Apache-2.0
// Body of head_logits.hpp: one product on the device, the rest on the host.
#ifndef KDLIB_ROLLOUT_HEAD_LOGITS_INL_HPP
#define KDLIB_ROLLOUT_HEAD_LOGITS_INL_HPP

#include <cmath>
#include <type_traits>
#include <vector>

#include "kdlib/core/parallel.hpp"
#include "kdlib/quant/head_product.hpp"
#include "kdlib/rollout/head_logits.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
Tensor<T, Cpu> head_logits(const HeadView<T, D>& head, View<const T, D> hidden) {
  require<ShapeError>(hidden.rank() == 2 && head.weight.rank() == 2 && hidden[1] == head.weight[1],
                      "[head_logits] hidden is ", hidden.shape(), ", the head's weight is ", head.weight.shape(),
                      ": both must end in the same width");
  const std::int64_t rows = hidden[0], columns = head.columns();
  Tensor<T, D> product(Shape{rows, columns});
  if (rows == 0) return Tensor<T, Cpu>(Shape{rows, columns});
  detail::multiply_head(head, rows, hidden.data(), columns, T{1}, product.data());
  Tensor<T, Cpu> logits;
  if constexpr (std::is_same_v<D, Cpu>) {
    logits = product;
  } else {
    logits = Tensor<T, Cpu>(product.shape());
    Memory<D>::to_host(logits.data(), product.data(), static_cast<std::size_t>(product.bytes()));
  }
  if (head.bias.empty() && head.softcap == 0 && head.logit_scale == 1) return logits;

  std::vector<T> bias;
  if (!head.bias.empty()) {
    bias.resize(static_cast<std::size_t>(columns));
    Memory<D>::to_host(bias.data(), head.bias.data(), bias.size() * sizeof(T));
  }
  const T scale = static_cast<T>(head.logit_scale), cap = static_cast<T>(head.softcap);
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      T* row = logits.data() + i * columns;
      for (std::int64_t j = 0; j < columns; ++j) {
        const T z = scale * (bias.empty() ? row[j] : row[j] + bias[static_cast<std::size_t>(j)]);
        row[j] = cap > T{0} ? cap * std::tanh(z / cap) : z;
      }
    }
  });
  return logits;
}

KDLIB_NAMESPACE_END

#endif
