// SPDX-License-Identifier: Apache-2.0
// Body of head_logits.hpp.
#ifndef KDLIB_ROLLOUT_HEAD_LOGITS_INL_HPP
#define KDLIB_ROLLOUT_HEAD_LOGITS_INL_HPP

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kdlib/quant/head_product.hpp"
#include "kdlib/rollout/head_logits.hpp"

KDLIB_NAMESPACE_BEGIN

template <class T, class D>
Tensor<logit_t<D, T>, D> device_head_logits(const HeadView<T, D>& head, View<const T, D> hidden) {
  using L = logit_t<D, T>;
  require<ShapeError>(hidden.rank() == 2 && head.weight.rank() == 2 && hidden[1] == head.weight[1],
                      "[head_logits] hidden is ", hidden.shape(), ", the head's weight is ", head.weight.shape(),
                      ": both must end in the same width");
  const std::int64_t rows = hidden[0], columns = head.columns();
  Tensor<L, D> product(Shape{rows, columns});
  if (rows == 0) return product;
  const L scale = static_cast<L>(head.logit_scale);
  detail::multiply_head(head, rows, hidden.data(), columns, scale, product.data());
  if (!head.bias.empty() || head.softcap != 0)  // what scoring computes with, so that both give the same bits
    RowKernels<D, L>::modify_logits(detail::HeadBias<T, D>(head).data(), scale, head.softcap, rows, columns,
                                    product.data());
  return product;
}

template <class T, class D>
Tensor<accumulate_t<T>, Cpu> head_logits(const HeadView<T, D>& head, View<const T, D> hidden) {
  using L = logit_t<D, T>;
  using C = accumulate_t<T>;
  Tensor<L, D> product = device_head_logits(head, hidden);
  if constexpr (std::is_same_v<D, Cpu>) return product;
  const std::vector<L> host = host_copy<L, D>(product);
  Tensor<C, Cpu> logits(product.shape());
  std::copy(host.begin(), host.end(), logits.data());
  return logits;
}

KDLIB_NAMESPACE_END

#endif
