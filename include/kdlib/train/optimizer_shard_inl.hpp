// SPDX-License-Identifier: Apache-2.0
// Bodies of optimizer_shard.hpp.
#ifndef KDLIB_TRAIN_OPTIMIZER_SHARD_INL_HPP
#define KDLIB_TRAIN_OPTIMIZER_SHARD_INL_HPP

#include <algorithm>

#include "kdlib/train/optimizer_shard.hpp"
#include "kdlib/train/ranked_store.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T, class D>
OptimizerShard<T, D>::OptimizerShard(AnyCommunicator communicator, std::vector<Parameter<T, D>*> trained)
    : communicator_(std::move(communicator)), trained_(std::move(trained)) {
  std::vector<std::int64_t> sizes;
  for (const Parameter<T, D>* p : trained_) sizes.push_back(p->value.count());
  bounds_ = divided_evenly(sizes, communicator_.size());
}

template <class T, class D>
void OptimizerShard<T, D>::share_values() {
  using C = gradient_t<T>;
  BytePacker packed;
  const auto [begin, end] = own();
  for (std::size_t i = begin; i < end; ++i) {
    const HostTensor values = to_host_tensor(trained_[i]->name, trained_[i]->values_to_write());
    packed.append(values.data.get(), values.bytes);
  }
  const std::vector<Bytes> parts = communicator_.gather_parts(packed.take());
  for (std::size_t r = 0; r < parts.size(); ++r) {
    if (r == rank()) continue;
    ByteUnpacker in(parts[r]);
    for (std::size_t i = bounds_[r]; i < bounds_[r + 1]; ++i) {
      Parameter<T, D>& p = *trained_[i];
      const Tensor<C, D> values = p.values_to_write();
      Memory<D>::from_host(values.data(), in.next(static_cast<std::size_t>(values.bytes())),
                           static_cast<std::size_t>(values.bytes()));
      p.values_changed();
    }
  }
}

template <class T, class D>
std::vector<HostTensor> OptimizerShard<T, D>::gather(const std::vector<HostTensor>& mine) {
  BytePacker packed;
  pack_tensors(packed, mine);
  std::vector<HostTensor> out;
  for (const Bytes& part : communicator_.gather_parts(packed.take())) {
    ByteUnpacker in(part);
    std::vector<HostTensor> theirs = unpack_tensors(in);
    std::move(theirs.begin(), theirs.end(), std::back_inserter(out));
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
