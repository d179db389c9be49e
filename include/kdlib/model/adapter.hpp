// SPDX-License-Identifier: Apache-2.0
// LoRA on a decoder in memory: functions that add, merge and unmerge an adapter. PEFT's files are in
// checkpoint/peft_adapter.hpp.
#ifndef KDLIB_MODEL_ADAPTER_HPP
#define KDLIB_MODEL_ADAPTER_HPP

#include <string>
#include <vector>

#include "kdlib/model/decoder.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN

/// Gives every linear map that `settings` target the factors A (uniform in +-1/sqrt(in)) and B (zero), so no output
/// changes. All other parameters are frozen. Returns the number of adapted maps. Throws ConfigError if nothing is
/// targeted, if the head or the embedding is targeted, or if the model has an adapter already.
template <class D, class T>
std::int64_t add_lora(Decoder<D, T>& model, const LoraSettings& settings);

/// Removes the factors. A merged adapter is unmerged first.
template <class D, class T>
void remove_adapter(Decoder<D, T>& model);

/// Replaces W by W + s B A. The sum is formed in T and rounded once when the model is saved. The old W is kept for
/// unmerge_adapter. Throws ConfigError if W is packed or if there is nothing to merge, FormatError if a sum is not
/// finite; no weight is changed then.
template <class D, class T>
void merge_adapter(Decoder<D, T>& model);
/// Restores the weights from before merge_adapter, bit for bit.
template <class D, class T>
void unmerge_adapter(Decoder<D, T>& model);

KDLIB_NAMESPACE_END

#include "kdlib/model/adapter_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/model/adapter_names_inl.hpp"
#endif

#endif
