// SPDX-License-Identifier: Apache-2.0
// Parts of a step in which the host queues work for a device and must not wait for it.
#ifndef KDLIB_TENSOR_QUEUED_PHASE_HPP
#define KDLIB_TENSOR_QUEUED_PHASE_HPP

#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class D>
struct QueuedPhaseOf {
  struct type {
    type() {}  // nothing is queued on the CPU
    void end() {}
  };
};
template <class D>
requires requires { typename Memory<D>::QueuedPhase; }
struct QueuedPhaseOf<D> {
  using type = typename Memory<D>::QueuedPhase;
};

}  // namespace detail

/// An object that lives during such a part, or until end(). While it lives, the device refuses waits
/// (Memory<D>::QueuedPhase).
template <class D>
using QueuedPhase = typename detail::QueuedPhaseOf<D>::type;

KDLIB_NAMESPACE_END

#endif
