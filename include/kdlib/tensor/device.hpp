// SPDX-License-Identifier: Apache-2.0
// Devices as types. A backend header specialises Kernels<Device, T> and Memory<Device>; without a backend header they
// are undefined.
#ifndef KDLIB_TENSOR_DEVICE_HPP
#define KDLIB_TENSOR_DEVICE_HPP

#include <cstddef>
#include <cstdint>

#include "kdlib/core/dtype.hpp"

KDLIB_NAMESPACE_BEGIN

/// The processor and memory of the host. Its kernels are in kdlib/backend/cpu.hpp.
struct Cpu {
  static constexpr const char* name = "cpu";
};

/// One NVIDIA GPU. Its kernels are in kdlib/backend/cuda.hpp.
struct Cuda {
  static constexpr const char* name = "cuda";
};

/// The operations of a device on a scalar type, as static functions. A backend header specialises this declaration.
template <class D, class T>
struct Kernels;

/// Allocates, releases and copies memory of a device. Memory<Cpu> is in tensor/buffer.hpp, Memory<Cuda> in
/// backend/cuda.hpp.
template <class D>
struct Memory;

/// Bytes of a device's allocator: `used` now, in steps of the allocator; `peak`, the largest value of `used`;
/// `reserved`, what the allocator has taken from the device.
struct CountedMemory {
  std::int64_t used = 0, peak = 0, reserved = 0;
};

/// A device that can count the memory of a run without doing the run: Memory<D>::DryRun.
template <class D>
concept CountsMemory = requires {
  typename Memory<D>::DryRun;
};

/// True while a DryRun of the device exists. Then nobody reads what is copied to the device, and long work need not be
/// done.
template <class D>
bool counts_now() {
  if constexpr (CountsMemory<D>) return Memory<D>::DryRun::lives();
  else return false;
}

/// The type of logits and of their gradients between a product and a loss: T, except float on the host for 16-bit T.
/// The host computes rows in float, and the chunks of logits are small.
template <class D, class T>
using logit_t = std::conditional_t<std::is_same_v<D, Cpu> && is_sixteen_bit<T>, float, T>;

/// True if a backend header for (D, T) has been included. The first use fixes the answer for the translation unit;
/// therefore kdlib.hpp never evaluates HasKernels for concrete types.
template <class D, class T>
concept HasKernels = requires {
  sizeof(Kernels<D, T>);
};

KDLIB_NAMESPACE_END

#endif
