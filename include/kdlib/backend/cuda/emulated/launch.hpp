// SPDX-License-Identifier: Apache-2.0
// launch() for the emulated device: the kernel is copied and queued; it runs when something waits for it.
#ifndef KDLIB_BACKEND_CUDA_EMULATED_LAUNCH_HPP
#define KDLIB_BACKEND_CUDA_EMULATED_LAUNCH_HPP

#include <typeinfo>
#include <utility>
#include <vector>

#include "kdlib/backend/cuda/emulated/block.hpp"
#include "kdlib/backend/cuda/runtime.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A kernel without its type. `words` are its arguments, which are searched for addresses.
struct EmulatedKernel {
  const char* type = "";
  std::vector<std::uint64_t> words;
  std::size_t bytes = 0;
  int most_threads = 0;
  EmulatedThreads::Body body;
};
/// Refuses what a device refuses (threads, shared memory, arguments, grid) and what it should not be given (addresses
/// of the host, of memory that was given back).
void emulated_launch(const EmulatedKernel& kernel, LaunchShape shape, void* stream);

/// Appends the bytes of x, its padding as zeros: what an object left there could pass for an address. Compilers that
/// cannot clear padding (clang up to 19) leave the arguments unsearched.
template <class X>
void append_words([[maybe_unused]] const X& x, [[maybe_unused]] std::vector<std::uint64_t>& words) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  static_assert(std::is_trivially_copyable_v<X>, "a kernel of other members names its pointers: each_argument(f)");
  X copy = x;
  __builtin_clear_padding(&copy);
  const std::size_t at = words.size();
  words.resize(at + (sizeof(X) + 7) / 8, 0);
  std::memcpy(words.data() + at, &copy, sizeof(X));
#endif
#endif
}

/// Whether the device can run kernels: EmulatedSettings says what they were compiled for.
bool emulated_can_run();
template <class Kernel>
bool can_run() {
  return emulated_can_run();
}

/// Starts a kernel on a stream (nullptr: the compute stream) and does not wait. BackendError where it cannot start.
template <class Kernel>
void launch(const Kernel& kernel, const LaunchShape& shape, void* stream = nullptr) {
  static_assert(std::is_trivially_copy_constructible_v<Kernel> && std::is_trivially_destructible_v<Kernel>,
                "a kernel's arguments travel to the device as bytes");
  if (shape.blocks == 0 || shape.blocks_y == 0) return;
  LaunchShape filled = shape;
  if (filled.threads == 0) filled.threads = Kernel::threads;
  std::vector<std::uint64_t> words;
  const auto append = [&](const auto& x) { append_words(x, words); };
  if constexpr (requires { kernel.each_argument(append); }) kernel.each_argument(append);
  else append(kernel);
  emulated_launch({typeid(Kernel).name(), std::move(words), sizeof(Kernel), Kernel::threads,
                   [kernel](EmulatedBlock& block) { kernel(block); }},
                  filled, stream);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
