// SPDX-License-Identifier: Apache-2.0
// A server's log-probabilities of tokens that the client chose: of the student's own most probable ones, an exact
// reverse KL on their support. `serve --teacher` alone.
#ifndef KDLIB_TEACHER_REMOTE_AT_HPP
#define KDLIB_TEACHER_REMOTE_AT_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/teacher/remote.hpp"

KDLIB_NAMESPACE_BEGIN

/// log p_t of `width` tokens for each row of the batch, [R, width], natural, at temperature 1; -infinity for padding.
/// ConfigError: another dialect than kdlib's. InputError: an id outside the teacher's vocabulary. ShapeError: not
/// `width` ids a row. RemoteError: the answer is about other tokens or another model.
std::vector<float> remote_log_probs_at(RemoteClient& client, const TokenBatch& batch, std::span<const std::int32_t> ids,
                                       std::int64_t width);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_at_inl.hpp"
#endif

#endif
