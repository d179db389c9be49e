// SPDX-License-Identifier: Apache-2.0
// Bodies of write_in_groups.hpp.
#ifndef KDLIB_ROLLOUT_WRITE_IN_GROUPS_INL_HPP
#define KDLIB_ROLLOUT_WRITE_IN_GROUPS_INL_HPP

#include <algorithm>

#include "kdlib/rollout/write_in_groups.hpp"

KDLIB_NAMESPACE_BEGIN

template <class M, class How>
std::vector<Completion> write_in_groups(M& model, std::span<const WritingRequest> requests, const Sampler& sampler,
                                        std::int64_t group, AnyCommunicator& ranks, How&& how) {
  require<ConfigError>(group >= 1, "[write_in_groups] a group has ", group, " texts; it must be 1 or more");
  const auto size = static_cast<std::size_t>(group), n = static_cast<std::size_t>(ranks.size());
  const std::size_t groups = (requests.size() + size - 1) / size;
  BytePacker mine;
  bool stopped = false;
  try {
    for (auto g = static_cast<std::size_t>(ranks.rank()); g < groups; g += n) {
      const std::size_t first = g * size, count = std::min(size, requests.size() - first);
      for (const Completion& text : generate(model, requests.subspan(first, count), sampler, how(first, count)))
        pack_completion(mine, text);
    }
  } catch (const StopRequested&) {
    stopped = true;
  }
  if (ranks.any(stopped)) throw StopRequested("stopped on request");
  const std::vector<Bytes> parts = ranks.gather_parts(mine.take());
  std::vector<ByteUnpacker> readers(parts.begin(), parts.end());
  std::vector<Completion> texts;
  for (std::size_t i = 0; i < requests.size(); ++i) texts.push_back(unpack_completion(readers[i / size % n]));
  return texts;
}

KDLIB_NAMESPACE_END

#endif
