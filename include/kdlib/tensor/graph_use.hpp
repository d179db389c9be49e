// SPDX-License-Identifier: Apache-2.0
// Devices that record work once and launch it many times, and the setting by which a program asks for this.
#ifndef KDLIB_TENSOR_GRAPH_USE_HPP
#define KDLIB_TENSOR_GRAPH_USE_HPP

#include <cstdint>

#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// A device that can record queued work once and launch it many times as a Memory<D>::Graph. The graph's allocations
/// lie in a Memory<D>::GraphMemory, whose size a Memory<D>::GraphMemoryPlan counts. The CPU queues nothing and has no
/// graphs.
template <class D>
concept CapturesGraphs = requires {
  typename Memory<D>::Graph;
};

/// Whether work that a device repeats is recorded as a graph.
enum class GraphUse : std::uint8_t {
  automatic,  // if the device and the work allow it; else kernel by kernel
  on,         // ConfigError if they do not allow it
  off
};

KDLIB_NAMESPACE_END

#endif
