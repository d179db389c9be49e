// SPDX-License-Identifier: Apache-2.0
// Teachers' caches in HDF5: the component `hdf5`, opt-in (KDLIB_HDF5; link kdlib::hdf5, which defines KDLIB_WITH_HDF5).
#ifndef KDLIB_HDF5_HPP
#define KDLIB_HDF5_HPP

#include "kdlib/teacher/cache_segment.hpp"

KDLIB_NAMESPACE_BEGIN

/// From here on this program reads and writes caches whose segments are HDF5 files (CacheContainer::hdf5). Each file
/// is a kdcache of version 1 by itself: attributes of the root are the segment's texts, datasets its arrays, chunked by
/// 256 lines, shuffled and compressed by gzip. f16 is HDF5's own 16-bit float, as h5py writes it; bf16 is an array of
/// 16-bit integers with the attribute dtype = "bf16". Without KDLIB_WITH_HDF5 the call is an error of the linker.
void use_hdf5_caches();

/// How the workers of MoE_Factorize_Compress shared N samples.
enum class SeedOrder : std::uint8_t {
  contiguous,  // worker k of W has samples from k floor(N / W) on, the last one the rest
  interleaved  // row j of worker k is sample k + j W
};
constexpr std::array<const char*, 2> enum_names(SeedOrder) { return {"contiguous", "interleaved"}; }

/// Writes a cache of kind logprobs in float32 (safetensors) from that program's files in `folder` (teacher_logits.h5 or
/// teacher_logits_worker<k>.h5, with metadata.json): raw logits of the K most probable tokens, without the others' mass
/// and without ids, so that `documents` must be the text they were made of, in its order. Probabilities are those over
/// the K and tails have mass 0: with TopKMass::tail the teacher is renormalised and the student whole, as there.
/// FormatError, InputError: other lengths, numbers of samples, ids outside the vocabulary, logits that do not fall.
CacheMeta import_seed_cache(const std::string& folder, SeedOrder order, const TokenBatch& documents,
                            const std::string& out, CacheFacts facts = {},
                            const std::vector<double>& temperatures = {1, 2}, std::int64_t segment = 256);

KDLIB_NAMESPACE_END

#if defined(KDLIB_WITH_HDF5)
#include "kdlib/hdf5_inl.hpp"
#include "kdlib/hdf5_seed_inl.hpp"
#endif

#endif
