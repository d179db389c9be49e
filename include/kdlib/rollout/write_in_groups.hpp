// SPDX-License-Identifier: Apache-2.0
// Texts written in fixed groups, so that they do not depend on how many ranks write them: decoding adds in an order
// that depends on which sequences stand side by side.
#ifndef KDLIB_ROLLOUT_WRITE_IN_GROUPS_HPP
#define KDLIB_ROLLOUT_WRITE_IN_GROUPS_HPP

#include "kdlib/core/communicator.hpp"
#include "kdlib/rollout/generate.hpp"

KDLIB_NAMESPACE_BEGIN

/// A completion as bytes, for other ranks.
void pack_completion(BytePacker& out, const Completion& text);
Completion unpack_completion(ByteUnpacker& in);

/// generate() for requests [g * group, (g + 1) * group) on rank g mod W, one group after the other; every rank gets all
/// completions in the order of the requests. `how(first, count)` answers the settings of a group. StopRequested on all
/// ranks where one was asked to stop.
template <class M, class How>
std::vector<Completion> write_in_groups(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
                                        std::int64_t group, AnyCommunicator& ranks, How&& how);

KDLIB_NAMESPACE_END

#include "kdlib/rollout/write_in_groups_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/packed_completion_inl.hpp"
#endif

#endif
