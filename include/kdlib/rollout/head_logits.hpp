// SPDX-License-Identifier: Apache-2.0
// Whole rows of logits, for drawing tokens and for writing logits to files. Losses do not need whole rows
// (loss/head_loss.hpp).
#ifndef KDLIB_ROLLOUT_HEAD_LOGITS_HPP
#define KDLIB_ROLLOUT_HEAD_LOGITS_HPP

#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns softcap(logit_scale * (hidden W^T + bias)), [N, head.columns()], on the device of the head, as head_logits
/// computes it.
template <class T, class D>
Tensor<logit_t<D, T>, D> device_head_logits(const HeadView<T, D>& head, View<const T, D> hidden);

/// Returns softcap(logit_scale * (hidden W^T + bias)) on the host: [N, head.columns()], without the columns that are
/// padding. `hidden` [N, H] is on the device of the head. The numbers are those that losses see; 16-bit numbers are
/// widened. Throws ShapeError if the widths differ.
template <class T, class D>
Tensor<accumulate_t<T>, Cpu> head_logits(const HeadView<T, D>& head, View<const T, D> hidden);

KDLIB_NAMESPACE_END

#include "kdlib/rollout/head_logits_inl.hpp"

#endif
