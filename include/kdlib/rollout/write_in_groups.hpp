// SPDX-License-Identifier: Apache-2.0
// Writes texts in fixed groups, so that they do not depend on the number of ranks that write them: the order in which
// decoding adds depends on the sequences that are decoded together.
#ifndef KDLIB_ROLLOUT_WRITE_IN_GROUPS_HPP
#define KDLIB_ROLLOUT_WRITE_IN_GROUPS_HPP

#include "kdlib/core/communicator.hpp"
#include "kdlib/rollout/generate.hpp"

KDLIB_NAMESPACE_BEGIN

/// Pack a completion into bytes for other ranks, and unpack it.
void pack_completion(BytePacker& out, const Completion& text);
Completion unpack_completion(ByteUnpacker& in);

/// Calls generate() for requests [g * group, (g + 1) * group) on rank g mod W (W: number of ranks), one group after the
/// other. Every rank gets all completions in the order of the requests. `how(first, count)` returns the settings of a
/// group. Throws StopRequested on all ranks if one of them was asked to stop, ConfigError if `group` is below 1.
template <class M, class How>
std::vector<Completion> write_in_groups(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
                                        std::int64_t group, AnyCommunicator& ranks, How&& how);

KDLIB_NAMESPACE_END

#include "kdlib/rollout/write_in_groups_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/packed_completion_inl.hpp"
#endif

#endif
