// SPDX-License-Identifier: Apache-2.0
// Writes a teacher's cache from servers that hold the teacher, as write_cache.hpp does from a model in memory. Opt-in,
// as remote.hpp is.
#ifndef KDLIB_TEACHER_REMOTE_CACHE_HPP
#define KDLIB_TEACHER_REMOTE_CACHE_HPP

#include <cstddef>
#include <vector>

#include "kdlib/teacher/remote.hpp"
#include "kdlib/teacher/write_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns what the servers tell of their model: its name, its hash (or its name again if there is no hash), vocabulary
/// and hidden size.
CacheFacts facts_of(RemoteClient& client);

/// Throws ConfigError, naming the setting, if the client cannot give what the cache holds. Servers give
/// log-probabilities at temperature 1 only. llama.cpp cannot make a cache of kind logprobs, because its server does not
/// tell the log-probability of a token outside the K. The client must want what the cache's kind holds, with the same
/// K.
void check_remote_cache(RemoteClient& client, const CacheSettings& settings);

/// Does what write_teacher_cache() does, with a client in place of a model. The client must want what the cache's kind
/// holds: RemoteWant::hidden, or RemoteWant::top_k with the same K. Up to `in_flight` batches for each server are sent
/// ahead. With `serve --teacher` and hidden states in f32 the files are equal, byte for byte, to those that the
/// server's model would have written. RemoteError: a server fails. Error, naming the document: an answer lists a token
/// that the student lacks.
CacheProgress write_remote_cache(RemoteClient& client, CacheWriter& writer, std::int64_t worker = 0,
                                 const WriteCacheSettings& settings = {});

namespace detail {
/// Requests the rows of one batch, waits for them and appends them to the columns.
void append_remote_batch(RemoteClient& client, const TokenBatch& batch, const CacheMeta& meta,
                         std::vector<std::vector<std::byte>>& columns);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_cache_inl.hpp"
#endif

#endif
