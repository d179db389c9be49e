// SPDX-License-Identifier: Apache-2.0
// Reads and writes a teacher's cached outputs in HDF5 files. This is the optional component `hdf5` (CMake option
// KDLIB_HDF5): link kdlib::hdf5, which defines KDLIB_WITH_HDF5.
#ifndef KDLIB_HDF5_HPP
#define KDLIB_HDF5_HPP

#include "kdlib/teacher/cache_segment.hpp"

KDLIB_NAMESPACE_BEGIN

/// After this call the program reads and writes caches whose segments are HDF5 files (CacheContainer::hdf5). Each file
/// is a complete kdcache of version 1: the attributes of the root hold the segment's texts and the datasets hold its
/// arrays, in chunks of 256 lines, shuffled and compressed by gzip. f16 is stored as HDF5's own 16-bit float, as h5py
/// writes it. bf16 is stored as an array of 16-bit integers with the attribute dtype = "bf16". Without KDLIB_WITH_HDF5
/// a program that calls this function does not link.
void use_hdf5_caches();

/// How the workers of the program MoE_Factorize_Compress divided N samples among themselves.
enum class SeedOrder : std::uint8_t {
  contiguous,  // worker k of W has floor(N / W) samples from k floor(N / W) on, the last one all that remain
  interleaved  // row j of worker k is sample k + j W
};
constexpr std::array<const char*, 2> enum_names(SeedOrder) { return {"contiguous", "interleaved"}; }

/// Writes a cache of kind logprobs in float32 (safetensors) from the files of MoE_Factorize_Compress in `folder`
/// (teacher_logits.h5 or teacher_logits_worker<k>.h5, with metadata.json). Those files hold raw logits of the teacher's
/// K most probable tokens, but neither the mass of all other tokens nor the ids of the text. `documents` must therefore
/// be the text that the logits were made from, in the same order. Probabilities are normalised over the K tokens, and
/// the mass outside them (the tail) is 0: with TopKMass::tail the teacher is renormalised and the student is not, as in
/// that program. FormatError or InputError: lengths or the number of samples differ, an id is outside the vocabulary,
/// or the logits of a row rise.
CacheMeta import_seed_cache(const std::string& folder, SeedOrder order, const TokenBatch& documents,
                            const std::string& out, CacheFacts facts = {},
                            const std::vector<double>& temperatures = {1, 2}, std::int64_t segment = 256);

KDLIB_NAMESPACE_END

#if defined(KDLIB_WITH_HDF5)
#include "kdlib/hdf5_inl.hpp"
#include "kdlib/hdf5_seed_inl.hpp"
#endif

#endif
