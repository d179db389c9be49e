// SPDX-License-Identifier: Apache-2.0
// Asks a server for the log-probabilities of tokens that the client chose. If these are the student's most probable
// tokens, they allow an exact reverse KL on the student's support. Only `serve --teacher` can answer.
#ifndef KDLIB_TEACHER_REMOTE_AT_HPP
#define KDLIB_TEACHER_REMOTE_AT_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/teacher/remote.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the teacher's natural log-probabilities of `width` tokens for each row of the batch, [R, width], at
/// temperature 1; -infinity for ids of padding. `ids` [R, width] are the tokens. ConfigError: the server speaks another
/// dialect than kdlib. InputError: an id is outside the teacher's vocabulary. ShapeError: `ids` does not have `width`
/// ids for each row. RemoteError: the answer is about other tokens or another model.
std::vector<float> remote_log_probs_at(RemoteClient& client, const TokenBatch& batch, std::span<const std::int32_t> ids,
                                       std::int64_t width);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_at_inl.hpp"
#endif

#endif
