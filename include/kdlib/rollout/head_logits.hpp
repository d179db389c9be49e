// SPDX-License-Identifier: Apache-2.0
// Logits of a few rows, whole: for drawing tokens and for writing them to files. Losses never need them
// (loss/head_loss.hpp).
#ifndef KDLIB_ROLLOUT_HEAD_LOGITS_HPP
#define KDLIB_ROLLOUT_HEAD_LOGITS_HPP

#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// softcap(logit_scale * (hidden W^T + bias)) on the device of the head, as head_logits.
template <class T, class D>
Tensor<logit_t<D, T>, D> device_head_logits(const HeadView<T, D>& head, View<const T, D> hidden);

/// softcap(logit_scale * (hidden W^T + bias)) on the host: [N, head.columns()], without the columns that are padding.
/// hidden [N, H] on the device of the head. Numbers are those that losses see, widened where these have 16 bits.
/// ShapeError when the widths differ.
template <class T, class D>
Tensor<accumulate_t<T>, Cpu> head_logits(const HeadView<T, D>& head, View<const T, D> hidden);

KDLIB_NAMESPACE_END

#include "kdlib/rollout/head_logits_inl.hpp"

#endif
