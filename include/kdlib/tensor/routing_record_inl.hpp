// SPDX-License-Identifier: Apache-2.0
// Bodies of routing_record.hpp.
#ifndef KDLIB_TENSOR_ROUTING_RECORD_INL_HPP
#define KDLIB_TENSOR_ROUTING_RECORD_INL_HPP

#include "kdlib/tensor/routing_record.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void RoutingRecord::append(const RoutingRecord& from, std::int64_t begin, std::int64_t count) {
  from.check(from.tokens);
  require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= from.tokens, "[RoutingRecord] tokens ", begin,
                      " to ", begin + count, " of ", from.tokens);
  if (ids.empty()) {
    active = from.active;
    ids.resize(from.ids.size());
  }
  require<ShapeError>(from.active == active && from.ids.size() == ids.size(), "[RoutingRecord] ", from.active,
                      " experts each in ", from.ids.size(), " layers cannot follow ", active, " experts each in ",
                      ids.size(), " layers");
  for (std::size_t m = 0; m < ids.size(); ++m)
    ids[m].insert(ids[m].end(), from.ids[m].begin() + begin * active, from.ids[m].begin() + (begin + count) * active);
  tokens += count;
}

KDLIB_FUNC void RoutingRecord::append_unknown(std::int64_t count) {
  require<ShapeError>(!ids.empty(),
                      "[RoutingRecord] an empty record does not tell the number of layers: append known tokens first");
  for (std::vector<std::int32_t>& layer : ids)
    layer.insert(layer.end(), static_cast<std::size_t>(count * active), unknown);
  tokens += count;
}

KDLIB_FUNC void RoutingRecord::check(std::int64_t count) const {
  if (empty()) return;
  require<ShapeError>(tokens == count, "[RoutingRecord] routing of ", tokens, " tokens for ", count);
  for (std::size_t m = 0; m < ids.size(); ++m)
    require<ShapeError>(static_cast<std::int64_t>(ids[m].size()) == tokens * active, "[RoutingRecord] mixture ", m,
                        " holds ", ids[m].size(), " choices; ", tokens, " tokens and ", active, " experts each need ",
                        tokens * active);
}

KDLIB_FUNC std::vector<std::vector<std::int64_t>> expert_histogram(const RoutingRecord& record, std::int64_t experts) {
  std::vector<std::vector<std::int64_t>> counts;
  for (std::size_t m = 0; m < record.ids.size(); ++m) {
    std::vector<std::int64_t>& row = counts.emplace_back(static_cast<std::size_t>(experts), 0);
    for (const std::int32_t id : record.ids[m]) {
      if (id == RoutingRecord::unknown) continue;
      require<InputError>(id >= 0 && id < experts, "[expert_histogram] mixture ", m, ": expert ", id,
                          "; expected 0 to ", experts - 1);
      ++row[static_cast<std::size_t>(id)];
    }
  }
  return counts;
}

KDLIB_NAMESPACE_END

#endif
