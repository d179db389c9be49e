// SPDX-License-Identifier: Apache-2.0
// Bodies of ranked_step.hpp.
#ifndef KDLIB_TRAIN_RANKED_STEP_INL_HPP
#define KDLIB_TRAIN_RANKED_STEP_INL_HPP

#include <algorithm>
#include <tuple>

#include "kdlib/train/environment.hpp"
#include "kdlib/train/ranked_step.hpp"
#include "kdlib/train/ranked_store.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

void pack_sums(BytePacker& out, const StepSums& sums);

StepSums unpack_sums(ByteUnpacker& in);

void add_sums(StepSums& sums, const StepSums& more);

template <class T, class D>
std::int64_t elements_of(const std::vector<Parameter<T, D>*>& parameters) {
  std::int64_t sum = 0;
  for (const Parameter<T, D>* p : parameters) sum += p->value.count();
  return sum;
}

template <class T, class D>
RankedStep<T, D>::RankedStep(const RankSettings& settings, std::int64_t slices, std::vector<Parameter<T, D>*> trained)
    : communicator_(settings.communicator),
      tree_(settings.tree()),
      slices_(slices),
      trained_(std::move(trained)),
      flat_(static_cast<std::size_t>(elements_of(trained_))),
      sum_(communicator_, tree_ ? slices : communicator_.size(), static_cast<std::int64_t>(flat_.size())) {
  std::tie(begin_, end_) = leaves_of_rank(slices, communicator_.rank(), communicator_.size());
}

template <class T, class D>
std::vector<double> RankedStep<T, D>::gather_slices(std::span<const double> mine, std::int64_t width) {
  const int ranks = communicator_.size();
  const std::int64_t most = (slices_ + ranks - 1) / ranks;
  std::vector<double> block(static_cast<std::size_t>(most * width)),
      all(block.size() * static_cast<std::size_t>(ranks));
  std::copy(mine.begin(), mine.end(), block.begin());
  communicator_.gather_all(std::as_bytes(std::span(block)), std::as_writable_bytes(std::span(all)));
  std::vector<double> out;
  for (int r = 0; r < ranks; ++r) {
    const auto [begin, end] = leaves_of_rank(slices_, r, ranks);
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(r * most * width);
    out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>((end - begin) * width));
  }
  return out;
}

template <class T, class D>
void RankedStep<T, D>::collect() {
  std::size_t at = 0;
  for (Parameter<T, D>* p : trained_) {
    const View<A, D> gradient = p->gradient_view();
    const auto count = static_cast<std::size_t>(gradient.count());
    Memory<D>::to_host(flat_.data() + at, gradient.data(), count * sizeof(A));
    at += count;
  }
}

template <class T, class D>
void RankedStep<T, D>::put_back(std::span<const A> values) {
  std::size_t at = 0;
  for (Parameter<T, D>* p : trained_) {
    const auto count = static_cast<std::size_t>(p->value.count());
    Memory<D>::from_host(p->gradient_view().data(), values.data() + at, count * sizeof(A));
    at += count;
  }
}

template <class T, class D>
void RankedStep<T, D>::take_slice() {
  if (!tree_) return;
  collect();
  sum_.add(flat_);
}

template <class T, class D>
double RankedStep<T, D>::reduce() {
  if (!tree_) {
    collect();
    sum_.add(flat_);
  }
  sum_.finish(flat_);
  put_back(flat_);
  return block_norm(std::span<const A>(flat_));
}

template <class T, class D>
RankedSums RankedStep<T, D>::gather_sums(const std::vector<StepSums>& mine, const RankTimes& times) {
  BytePacker packed;
  packed.add(times).add(mine.size());
  for (const StepSums& sums : mine) pack_sums(packed, sums);
  RankedSums out;
  for (const Bytes& part : communicator_.gather_parts(packed.take())) {
    ByteUnpacker in(part);
    out.ranks.push_back(in.get<RankTimes>());
    const auto count = in.get<std::size_t>();
    for (std::size_t i = 0; i < count; ++i) add_sums(out.sums, unpack_sums(in));
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
