// SPDX-License-Identifier: Apache-2.0
// Plain experts from experts that share cores: for readers that know the plain mixture alone.
#ifndef KDLIB_MODEL_MATERIALISE_HPP
#define KDLIB_MODEL_MATERIALISE_HPP

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// The plain mixture of the same function: every expert's maps as matrices W_e (nn/shared_core_experts.hpp), formed in
/// T. Everything else is `compressed`'s, in the same memory. Every parameter is trainable. It has the size of the model
/// that was compressed. ConfigError: the experts share no cores; an adapter; weights that are codes or stay in their
/// file.
template <class D, class T>
Decoder<D, T> materialise(Decoder<D, T>&& compressed);

KDLIB_NAMESPACE_END

#include "kdlib/model/materialise_inl.hpp"

#endif
