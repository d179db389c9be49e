// SPDX-License-Identifier: Apache-2.0
// The pieces of a mixture whose experts share a core: tokens by expert, each expert's low-rank part, and the weighted
// sum over a token's experts. N tokens, K active experts, R = N K rows sorted by expert, E experts.
#ifndef KDLIB_AUTOGRAD_LOW_RANK_EXPERTS_HPP
#define KDLIB_AUTOGRAD_LOW_RANK_EXPERTS_HPP

#include "kdlib/autograd/experts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The rows of x [N, H] in the order of their experts, [R, H]: a token stands there once for each of its K experts.
template <class T, class D>
Var<T, D> sort_by_expert(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& x);

/// base + (x down_e) up_e^T for each row of expert e: x [R, in], base [R, out], up [E, out, r], down [E, in, r]. `base`
/// may be x itself where in = out. Keeps x and x down_e [R, r]. ShapeError names the sizes that do not fit.
template <class T, class D>
Var<T, D> add_low_rank(Tape<T, D>& tape, const Routing<T, D>& routing, Parameter<T, D>& up, Parameter<T, D>& down,
                       const Var<T, D>& x, const Var<T, D>& base);

/// residual + the sum over a token's experts of weight * y, for y [R, H] sorted by expert and residual [N, H]. Keeps y
/// where the routing weights want a gradient.
template <class T, class D>
Var<T, D> combine_experts(Tape<T, D>& tape, const Routing<T, D>& routing, const Var<T, D>& y,
                          const Var<T, D>& residual);

KDLIB_NAMESPACE_END

#include "kdlib/autograd/low_rank_experts_inl.hpp"

#endif
