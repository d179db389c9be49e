// SPDX-License-Identifier: Apache-2.0
// Makes plain experts from experts that share cores, for programs that only know the plain mixture.
#ifndef KDLIB_MODEL_MATERIALISE_HPP
#define KDLIB_MODEL_MATERIALISE_HPP

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the plain mixture that computes the same function: every map of every expert becomes a matrix W_e
/// (nn/shared_core_experts.hpp), formed in T. All other weights are those of `compressed`, in the same memory. Every
/// parameter is trainable. The result is as large as the model before its compression. Throws ConfigError if the
/// experts share no cores, if the model has an adapter, or if weights are codes or stay in their file.
template <class D, class T>
Decoder<D, T> materialise(Decoder<D, T>&& compressed);

KDLIB_NAMESPACE_END

#include "kdlib/model/materialise_inl.hpp"

#endif
