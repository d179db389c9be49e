// SPDX-License-Identifier: Apache-2.0
// A completion as bytes (write_in_groups.hpp).
#ifndef KDLIB_ROLLOUT_PACKED_COMPLETION_INL_HPP
#define KDLIB_ROLLOUT_PACKED_COMPLETION_INL_HPP

#include "kdlib/core/byte_pack.hpp"
#include "kdlib/rollout/write_in_groups.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void pack_completion(BytePacker& out, const Completion& text) {
  out.add_list(text.ids).add_list(text.log_probs).add_list(text.full_log_probs).add(text.stopped).add_list(text.given);
  out.add(text.routing.tokens).add(text.routing.active).add(text.routing.ids.size());
  for (const std::vector<std::int32_t>& ids : text.routing.ids) out.add_list(ids);
}

KDLIB_FUNC Completion unpack_completion(ByteUnpacker& in) {
  Completion text;
  text.ids = in.list<std::int32_t>();
  text.log_probs = in.list<float>();
  text.full_log_probs = in.list<float>();
  text.stopped = in.get<bool>();
  text.given = in.list<std::uint8_t>();
  text.routing.tokens = in.get<std::int64_t>();
  text.routing.active = in.get<std::int64_t>();
  const auto mixtures = in.get<std::size_t>();
  for (std::size_t m = 0; m < mixtures; ++m) text.routing.ids.push_back(in.list<std::int32_t>());
  return text;
}

KDLIB_NAMESPACE_END

#endif
