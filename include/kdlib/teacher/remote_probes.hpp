// SPDX-License-Identifier: Apache-2.0
// What is asked of a teacher's server before a run: does it read text as the student does, and does it say the same
// twice?
#ifndef KDLIB_TEACHER_REMOTE_PROBES_HPP
#define KDLIB_TEACHER_REMOTE_PROBES_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/teacher/remote.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// The student's side.
struct RemoteProbe {
  const Tokenizer* tokenizer = nullptr;  // nullptr: none
  std::int64_t rows = 0;                 // of its head
  std::vector<std::int32_t> end_ids{};   // that end its texts
};

/// Answers notes, one sentence each: what could not be asked, and end tokens that differ. ConfigError, in a sentence of
/// its own:
///   - the server's tokenizer is another one (its hash with `serve --teacher`, else five texts);
///   - log-probabilities depend on the temperature of the request (vLLM, SGLang);
///   - a prompt that is scored again, or after one that shares its beginning, gets values that differ by 2e-2 or more:
///     the prefix cache changes them (vLLM, SGLang).
std::vector<std::string> probe_remote_teacher(RemoteClient& client, const RemoteProbe& student);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_probes_inl.hpp"
#endif

#endif
