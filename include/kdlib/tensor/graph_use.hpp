// SPDX-License-Identifier: Apache-2.0
// Devices that record work once and launch it many times, and whether a program wants that.
#ifndef KDLIB_TENSOR_GRAPH_USE_HPP
#define KDLIB_TENSOR_GRAPH_USE_HPP

#include <cstdint>

#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// A device that can record queued work once and launch it many times: Memory<D>::Graph, whose allocations lie in a
/// Memory<D>::GraphMemory of the size that a Memory<D>::GraphMemoryPlan counts. The CPU queues nothing and has none.
template <class D>
concept CapturesGraphs = requires {
  typename Memory<D>::Graph;
};

/// Whether work that a device repeats is recorded as a graph.
enum class GraphUse : std::uint8_t {
  automatic,  // where the device and what runs on it allow it; else kernel by kernel
  on,         // ConfigError where they do not
  off
};

KDLIB_NAMESPACE_END

#endif
