// SPDX-License-Identifier: Apache-2.0
// The functions of a mixture whose experts share one core matrix for each map: sort tokens by expert, add the low-rank
// part of each expert, and sum over the experts of a token. N is the number of tokens, H the width, E the number of
// experts, K the experts that are active for a token, R = N K the number of rows sorted by expert, and r the rank of
// the low-rank parts.
#ifndef KDLIB_AUTOGRAD_LOW_RANK_EXPERTS_HPP
#define KDLIB_AUTOGRAD_LOW_RANK_EXPERTS_HPP

#include "kdlib/autograd/experts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the rows of x [N, H] in the order of their experts, [R, H]. Each token occurs K times, once for each of its
/// experts.
template <class T, class D>
Var<T, D> sort_by_expert(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x);

/// Returns base + (x down_e) up_e^T for each row of expert e, [R, out], for x [R, in], base [R, out], up [E, out, r]
/// and down [E, in, r]. `base` may be x itself if in = out. The tape keeps x and x down_e [R, r]. ShapeError names the
/// sizes that do not fit.
template <class T, class D>
Var<T, D> add_low_rank(Tape<T, D>& tape, const Routing<T, D>& routing, Parameter<T, D>& up, Parameter<T, D>& down,
                       const Var<T, D>& x, const Var<T, D>& base);

/// Returns residual + the sum over the experts of a token of weight * y, [N, H], for y [R, H] sorted by expert and
/// residual [N, H]. The tape keeps y if the routing weights want a gradient. ShapeError names the sizes that do not
/// fit.
template <class T, class D>
Var<T, D> combine_experts(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& y,
                          const Var<T, D>& residual);

KDLIB_NAMESPACE_END

#include "kdlib/autograd/low_rank_experts_inl.hpp"

#endif
