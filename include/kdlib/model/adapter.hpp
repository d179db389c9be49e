// SPDX-License-Identifier: Apache-2.0
// LoRA on a decoder in memory: add, merge and unmerge. PEFT's files are in checkpoint/peft_adapter.hpp.
#ifndef KDLIB_MODEL_ADAPTER_HPP
#define KDLIB_MODEL_ADAPTER_HPP

#include <string>
#include <vector>

#include "kdlib/model/decoder.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN

/// Gives every targeted linear map factors A (uniform in +-1/sqrt(in)) and B (zero): no output changes. All other
/// parameters are frozen. Answers how many maps were adapted. ConfigError: nothing is targeted, the head or the
/// embedding is, or there is an adapter already.
template <class D, class T>
std::int64_t add_lora(Decoder<D, T>& model, const LoraSettings& settings);

/// Takes the factors away (unmerging first).
template <class D, class T>
void remove_adapter(Decoder<D, T>& model);

/// W <- W + s B A, formed in T and rounded once when saved. The W of before is kept for unmerge_adapter. ConfigError
/// where W is packed; FormatError where the sum is not finite (no weight is changed then).
template <class D, class T>
void merge_adapter(Decoder<D, T>& model);
/// Back to the weights of before, bit for bit.
template <class D, class T>
void unmerge_adapter(Decoder<D, T>& model);

KDLIB_NAMESPACE_END

#include "kdlib/model/adapter_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/model/adapter_names_inl.hpp"
#endif

#endif
