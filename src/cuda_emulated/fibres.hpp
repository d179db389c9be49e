// SPDX-License-Identifier: Apache-2.0
// Stacks that one system thread switches between.
#ifndef KDLIB_SRC_CUDA_EMULATED_FIBRES_HPP
#define KDLIB_SRC_CUDA_EMULATED_FIBRES_HPP

#include <cstddef>
#include <vector>

#include "kdlib/config.hpp"

#if !defined(__x86_64__) && !defined(__aarch64__)
#define KDLIB_FIBRES_BY_UCONTEXT 1
#include <ucontext.h>
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// `count` fibres with stacks that end at a page which nothing may touch. Not for several system threads at once.
class FibreSet {
 public:
  explicit FibreSet(int count);
  ~FibreSet();
  FibreSet(const FibreSet&) = delete;
  FibreSet& operator=(const FibreSet&) = delete;

  /// Fibre i will begin with entry(argument), which must end with pause() and is not resumed after it.
  void prepare(int i, void (*entry)(void*), void* argument);
  /// Runs fibre i until it pauses.
  void resume(int i);
  /// Called by fibre i: back to who resumed it.
  void pause(int i);

 private:
  static void begin();
  void changed_to(void* fake, bool home);

  std::size_t stride_ = 0;
  char* stacks_ = nullptr;
  int count_ = 0;
#if defined(KDLIB_FIBRES_BY_UCONTEXT)
  std::vector<ucontext_t> contexts_;
  ucontext_t home_{};
#else
  std::vector<void*> tops_;
  void* home_ = nullptr;
#endif
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  [[maybe_unused]] const void* home_bottom_ = nullptr;  // of the home stack, for the address sanitizer
  [[maybe_unused]] std::size_t home_size_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
