// SPDX-License-Identifier: Apache-2.0
// A teacher's cache from servers that have the teacher: what write_cache.hpp does of a model in memory. Opt-in, as
// remote.hpp.
#ifndef KDLIB_TEACHER_REMOTE_CACHE_HPP
#define KDLIB_TEACHER_REMOTE_CACHE_HPP

#include <cstddef>
#include <vector>

#include "kdlib/teacher/remote.hpp"
#include "kdlib/teacher/write_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the servers tell of themselves: model, its hash or, where they have none, its name, vocabulary, hidden size.
CacheFacts facts_of(RemoteClient& client);

/// ConfigError naming the setting: servers give log-probabilities at temperature 1, and hidden states only by the
/// dialect kdlib; llama.cpp's do not tell a token outside the K.
void check_remote_cache(RemoteClient& client, const CacheSettings& settings);

/// write_teacher_cache of a client that wants what the cache's kind holds (RemoteWant::hidden or top_k with its K).
/// Batches are sent ahead, up to `in_flight` of each server. From `serve --teacher` and f32 hidden states the files are
/// those that the server's model would have written, byte for byte. RemoteError; Error naming the document where an
/// answer lists a token that the student lacks.
CacheProgress write_remote_cache(RemoteClient& client, CacheWriter& writer, std::int64_t worker = 0,
                                 const WriteCacheSettings& settings = {});

namespace detail {
/// The columns of one batch, asked for and waited for.
void append_remote_batch(RemoteClient& client, const TokenBatch& batch, const CacheMeta& meta,
                         std::vector<std::vector<std::byte>>& columns);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_cache_inl.hpp"
#endif

#endif
