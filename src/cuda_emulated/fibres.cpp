// SPDX-License-Identifier: Apache-2.0
// Fibres with a switch of their own: it saves what the calling convention asks a callee to keep, and nothing else.
#include "fibres.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "kdlib/core/error.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KDLIB_FIBRES_UNDER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define KDLIB_FIBRES_UNDER_ASAN 1
#endif
#if defined(KDLIB_FIBRES_UNDER_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// kdlib_switch_stack(void** save, void* to)
asm(R"(
.text
.globl kdlib_switch_stack
.hidden kdlib_switch_stack
.type kdlib_switch_stack, @function
kdlib_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size kdlib_switch_stack, .-kdlib_switch_stack
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl kdlib_switch_stack
.hidden kdlib_switch_stack
.type kdlib_switch_stack, %function
kdlib_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size kdlib_switch_stack, .-kdlib_switch_stack
)");
#endif
#if !defined(KDLIB_FIBRES_BY_UCONTEXT)
extern "C" void kdlib_switch_stack(void** save, void* to);
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10, page_bytes = 4096;
FibreSet* beginning = nullptr;  // whose fibre begins: its first function has no argument

}  // namespace

FibreSet::FibreSet(int count) : stride_(stack_bytes + page_bytes), count_(count) {
  const std::size_t bytes = stride_ * static_cast<std::size_t>(count);
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require<BackendError>(at != MAP_FAILED, "[cuda emulated] no ", bytes, " bytes of address space for the threads");
  stacks_ = static_cast<char*>(at);
  for (int i = 0; i < count; ++i) ::mprotect(stacks_ + stride_ * static_cast<std::size_t>(i), page_bytes, PROT_NONE);
#if defined(KDLIB_FIBRES_BY_UCONTEXT)
  contexts_.resize(static_cast<std::size_t>(count));
#else
  tops_.resize(static_cast<std::size_t>(count));
#endif
}
FibreSet::~FibreSet() { ::munmap(stacks_, stride_ * static_cast<std::size_t>(count_)); }

void FibreSet::begin() {
  FibreSet* self = beginning;
  self->changed_to(nullptr, false);
  self->entry_(self->argument_);
  __builtin_trap();  // the entry pauses and is not resumed
}

void FibreSet::prepare(int i, void (*entry)(void*), void* argument) {
  entry_ = entry, argument_ = argument;
  char* bottom = stacks_ + stride_ * static_cast<std::size_t>(i) + page_bytes;
#if defined(KDLIB_FIBRES_BY_UCONTEXT)
  ucontext_t& c = contexts_[static_cast<std::size_t>(i)];
  ::getcontext(&c);
  c.uc_stack.ss_sp = bottom, c.uc_stack.ss_size = stack_bytes, c.uc_link = nullptr;
  ::makecontext(&c, &FibreSet::begin, 0);
#else
  auto* top = reinterpret_cast<std::uint64_t*>(bottom + stack_bytes);
  void (*first)() = &FibreSet::begin;
#if defined(__x86_64__)
  top -= 8;  // six registers, the address to return to, one word so that the stack is aligned as after a call
  std::memset(top, 0, 8 * sizeof(*top));
  std::memcpy(top + 6, &first, sizeof(first));
#else
  top -= 20;
  std::memset(top, 0, 20 * sizeof(*top));
  std::memcpy(top + 11, &first, sizeof(first));  // x30
#endif
  tops_[static_cast<std::size_t>(i)] = top;
#endif
}

/// Tells the address sanitizer that the switch is done.
void FibreSet::changed_to([[maybe_unused]] void* fake, [[maybe_unused]] bool home) {
#if defined(KDLIB_FIBRES_UNDER_ASAN)
  if (home) __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
  else __sanitizer_finish_switch_fiber(fake, &home_bottom_, &home_size_);
#endif
}

void FibreSet::resume(int i) {
  beginning = this;
  void* fake = nullptr;
#if defined(KDLIB_FIBRES_UNDER_ASAN)
  __sanitizer_start_switch_fiber(&fake, stacks_ + stride_ * static_cast<std::size_t>(i) + page_bytes, stack_bytes);
#endif
#if defined(KDLIB_FIBRES_BY_UCONTEXT)
  ::swapcontext(&home_, &contexts_[static_cast<std::size_t>(i)]);
#else
  kdlib_switch_stack(&home_, tops_[static_cast<std::size_t>(i)]);
#endif
  changed_to(fake, true);
}

void FibreSet::pause(int i) {
  void* fake = nullptr;
#if defined(KDLIB_FIBRES_UNDER_ASAN)
  __sanitizer_start_switch_fiber(&fake, home_bottom_, home_size_);
#endif
#if defined(KDLIB_FIBRES_BY_UCONTEXT)
  ::swapcontext(&contexts_[static_cast<std::size_t>(i)], &home_);
#else
  kdlib_switch_stack(&tops_[static_cast<std::size_t>(i)], home_);
#endif
  changed_to(fake, false);
}

}  // namespace detail
KDLIB_NAMESPACE_END
