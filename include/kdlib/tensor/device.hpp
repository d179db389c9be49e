// SPDX-License-Identifier: Apache-2.0
// Devices as types. A backend header specialises Kernels<Device, T> and Memory<Device>; without it they are undefined.
#ifndef KDLIB_TENSOR_DEVICE_HPP
#define KDLIB_TENSOR_DEVICE_HPP

#include <cstddef>
#include <cstdint>

#include "kdlib/core/dtype.hpp"

KDLIB_NAMESPACE_BEGIN

/// The host's processor and memory; kernels come from kdlib/backend/cpu.hpp.
struct Cpu {
  static constexpr const char* name = "cpu";
};

/// One NVIDIA GPU; kernels come from kdlib/backend/cuda.hpp.
struct Cuda {
  static constexpr const char* name = "cuda";
};

/// The operations of a device on a scalar type, as static functions. Declared here, specialised by a backend header.
template <class D, class T>
struct Kernels;

/// allocate / release / copies of a device. Memory<Cpu> is in tensor/buffer.hpp; Memory<Cuda> in backend/cuda.hpp.
template <class D>
struct Memory;

/// Bytes of a device's allocator: in use in its own steps, at most in use, and taken from the device for that.
struct CountedMemory {
  std::int64_t used = 0, peak = 0, reserved = 0;
};

/// A device that can count a run instead of doing it: Memory<D>::DryRun.
template <class D>
concept CountsMemory = requires {
  typename Memory<D>::DryRun;
};

/// Whether a DryRun of the device lives: then what is copied to it is read by nobody, and long work need not make it.
template <class D>
bool counts_now() {
  if constexpr (CountsMemory<D>) return Memory<D>::DryRun::lives();
  else return false;
}

/// The type of logits, and of their gradients, between a product and a loss: T, but float on the host for 16-bit T. The
/// host's row engine computes in float, and the chunks of logits are small.
template <class D, class T>
using logit_t = std::conditional_t<std::is_same_v<D, Cpu> && is_sixteen_bit<T>, float, T>;

/// True where a backend header for (D, T) has been included. Asked once it keeps its answer for the translation unit:
/// kdlib.hpp never evaluates it for concrete types.
template <class D, class T>
concept HasKernels = requires {
  sizeof(Kernels<D, T>);
};

KDLIB_NAMESPACE_END

#endif
