// SPDX-License-Identifier: Apache-2.0
// A fault of a kernel ends its fibre and becomes a BackendError of the call that waited for the kernel. A fault of the
// host ends the program with a sentence, as there is no call that could throw.
#include "faults.hpp"

#include <ucontext.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "device.hpp"
#include "kdlib/backend/cuda/emulated/threads.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

struct sigaction before {};
char text[256];

/// Where a faulting fibre goes on, outside of the signal's handler.
[[noreturn]] void land() { EmulatedThreads::running()->abandon(text); }

/// Lets the interrupted code go on in land(); false where this machine's registers are not known.
bool redirect(void* context) {
#if defined(__x86_64__)
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto stack = (static_cast<std::uintptr_t>(registers[REG_RSP]) - 256) / 16 * 16 - 8;
  registers[REG_RSP] = static_cast<greg_t>(stack);
  registers[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(&land));
  return true;
#elif defined(__aarch64__) && defined(__linux__)
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
  machine.sp = (machine.sp - 256) / 16 * 16;
  machine.pc = reinterpret_cast<std::uintptr_t>(&land);
  return true;
#else
  (void)context;
  return false;
#endif
}

void write_text() { [[maybe_unused]] const auto written = ::write(2, text, std::strlen(text)) + ::write(2, "\n", 1); }

void handle(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  EmulatedMemory& memory = emulated_device().memory;
  if (!memory.holds(address)) {  // not ours: the fault comes again and meets the handler of before
    ::sigaction(signal, &before, nullptr);
    return;
  }
  if (memory.fault(address, text, sizeof(text))) return;
  if (EmulatedThreads::running() != nullptr && redirect(context)) return;
  write_text();
  ::_exit(97);
}

}  // namespace

void install_fault_handler() {
  struct sigaction now {};
  ::sigaction(SIGSEGV, nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == &handle) return;
  before = now;
  struct sigaction mine {};
  mine.sa_sigaction = &handle;
  mine.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ::sigaction(SIGSEGV, &mine, nullptr);
  ::sigaction(SIGBUS, &mine, nullptr);
}

void die(const std::string& what) {
  std::strncpy(text, what.c_str(), sizeof(text) - 1);
  write_text();
  ::_exit(97);
}

}  // namespace detail
KDLIB_NAMESPACE_END
