// SPDX-License-Identifier: Apache-2.0
// Questions to a teacher's server before a run: does the server split text into the same tokens as the student, and
// does it give the same numbers twice?
#ifndef KDLIB_TEACHER_REMOTE_PROBES_HPP
#define KDLIB_TEACHER_REMOTE_PROBES_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/teacher/remote.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the student has.
struct RemoteProbe {
  const Tokenizer* tokenizer = nullptr;  // nullptr: none
  std::int64_t rows = 0;                 // rows of the student's head
  std::vector<std::int32_t> end_ids{};   // ids that end the student's texts
};

/// Returns notes, one sentence each, about what could not be asked and about end tokens that differ. Throws ConfigError
/// in these cases:
///   - the server's tokenizer differs from the student's (compared by its hash with `serve --teacher`, else on five
///     texts);
///   - the log-probabilities depend on the temperature of the request (vLLM, SGLang);
///   - a prompt gets log-probabilities that differ by 2e-2 or more when it is scored again, or after a prompt with the
///     same beginning: the server's prefix cache changes them (vLLM, SGLang).
std::vector<std::string> probe_remote_teacher(RemoteClient& client, const RemoteProbe& student);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/remote_probes_inl.hpp"
#endif

#endif
