// SPDX-License-Identifier: Apache-2.0
// Bodies of ranked_step.hpp that do not depend on a device: sums as bytes, and settings that must be equal.
#ifndef KDLIB_TRAIN_RANKED_SUMS_INL_HPP
#define KDLIB_TRAIN_RANKED_SUMS_INL_HPP

#include "kdlib/core/communicator.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/train/environment.hpp"
#include "kdlib/train/ranked_step.hpp"
#include "kdlib/train/ranked_store.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC void pack_sums(BytePacker& out, const StepSums& sums) {
  out.add(sums.loss).add(sums.metrics).add(sums.kl).add_list(sums.span_loss);
  out.add(sums.experts.balance).add(sums.experts.z).add(sums.experts.regularised).add(sums.experts.counts.size());
  for (const std::vector<std::int64_t>& counts : sums.experts.counts) out.add_list(counts);
}

KDLIB_FUNC StepSums unpack_sums(ByteUnpacker& in) {
  StepSums sums;
  sums.loss = in.get<LossSum>();
  sums.metrics = in.get<RowMetrics>();
  sums.kl = in.get<RowSpread>();
  sums.span_loss = in.list<LossSum>();
  sums.experts.balance = in.get<double>();
  sums.experts.z = in.get<double>();
  sums.experts.regularised = in.get<bool>();
  const auto mixtures = in.get<std::size_t>();
  for (std::size_t m = 0; m < mixtures; ++m) sums.experts.counts.push_back(in.list<std::int64_t>());
  return sums;
}

KDLIB_FUNC void add_sums(StepSums& sums, const StepSums& more) {
  sums.loss += more.loss;
  sums.metrics += more.metrics;
  sums.kl += more.kl;
  if (sums.span_loss.size() < more.span_loss.size()) sums.span_loss.resize(more.span_loss.size());
  for (std::size_t s = 0; s < more.span_loss.size(); ++s) sums.span_loss[s] += more.span_loss[s];
  ExpertUse& use = sums.experts;
  if (use.counts.empty()) use.counts.resize(more.experts.counts.size());
  for (std::size_t m = 0; m < more.experts.counts.size(); ++m) {
    const std::vector<std::int64_t>& from = more.experts.counts[m];
    use.counts[m].resize(from.size());
    for (std::size_t e = 0; e < from.size(); ++e) use.counts[m][e] += from[e];
  }
  use.balance += more.experts.balance;
  use.z += more.experts.z;
  use.regularised = use.regularised || more.experts.regularised;
}

KDLIB_FUNC void check_equal_ranks(AnyCommunicator& communicator, const SettingsList& mine) {
  if (communicator.size() == 1) return;
  BytePacker packed;
  pack_settings(packed, mine);
  const std::vector<Bytes> parts = communicator.gather_parts(packed.take());
  ByteUnpacker first_in(parts.front());
  const SettingsList first = unpack_settings(first_in);
  for (std::size_t r = 1; r < parts.size(); ++r) {
    ByteUnpacker in(parts[r]);
    const SettingsList other = unpack_settings(in);
    for (std::size_t i = 0; i < std::max(first.size(), other.size()); ++i) {
      const auto& known = i < first.size() ? first[i] : other[i];
      const std::string a = i < first.size() ? first[i].second : "(not set)";
      const std::string b = setting_or_not_set(other, known.first);
      require<ConfigError>(a == b, "[ranks] ", known.first, " is ", a, " on rank 0 and ", b, " on rank ", r,
                           ": all ranks need the same program, settings and files");
    }
  }
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
