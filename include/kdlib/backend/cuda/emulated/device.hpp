// SPDX-License-Identifier: Apache-2.0
// What a test says to the emulated device of kdlib::cuda_emulated, and what it counts.
#ifndef KDLIB_BACKEND_CUDA_EMULATED_DEVICE_HPP
#define KDLIB_BACKEND_CUDA_EMULATED_DEVICE_HPP

#include <cstdint>

#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// The order in which the threads of a block, the blocks of a grid and the streams take their turns.
enum class EmulatedOrder { forwards, backwards, shuffled };

/// A device as the emulation answers. Some may be set from outside: KDLIB_EMULATED_ORDER=forwards, backwards or the
/// seed of a shuffled order; KDLIB_EMULATED_DEVICES, KDLIB_EMULATED_DRIVER and KDLIB_EMULATED_MEMORY (bytes).
struct EmulatedSettings {
  int devices = 1;                                    // 0: no device answers
  int major = 9, minor = 0;                           // compute capability: 8.0 or 9.0
  std::int64_t memory_bytes = std::int64_t{4} << 30;  // allocations above it are refused
  EmulatedOrder order = EmulatedOrder::forwards;
  std::uint64_t seed = 1;
  int oldest_major = 8, oldest_minor = 0;  // the lowest capability that kernels "were compiled for"
  int runtime = 13000, driver = 13000;     // CUDA versions; driver 0: none
  int cudnn = 92500;                       // version of the stand-in for cuDNN; 0: none
};
EmulatedSettings& emulated_settings();

/// What the device did since the program began.
struct EmulatedCounts {
  std::int64_t launches = 0;            // kernels
  std::int64_t products = 0;            // matrix products
  std::int64_t copies = 0;              // of any kind
  std::int64_t waits = 0;               // of the host for the device
  std::int64_t allocated = 0;           // blocks of memory
  std::int64_t library_attentions = 0;  // passes that went to the stand-in for cuDNN
  std::int64_t uploads = 0;             // calls of from_host
  std::int64_t captures = 0;            // of graphs
  std::int64_t graph_launches = 0;
};
const EmulatedCounts& emulated_counts();

/// What the arena of a device would have counted of the same allocations, since the last reset.
CountedMemory emulated_arena();
/// Gives back what nothing uses; the peaks are what is in use now.
void reset_emulated_arena();

KDLIB_NAMESPACE_END

#endif
