// SPDX-License-Identifier: Apache-2.0
// head_loss on a device that is made up: its row engine is the CUDA kernel's body on the host
// (tests/cuda/host_block.hpp), its products the CPU's. Its memory can be touched by its kernels and copies alone, so a
// host access to device memory ends the test.
#include <sys/mman.h>

#include <map>

#include "cuda/host_block.hpp"
#include "cuda/target_cases.hpp"
#include "kdlib/backend/cuda/row_parts_inl.hpp"

namespace {

struct Emulated {
  static constexpr const char* name = "emulated";
};

/// All memory of the device is open while one of these lives.
class Open {
 public:
  Open() { protect(depth()++ == 0, PROT_READ | PROT_WRITE); }
  ~Open() { protect(--depth() == 0, PROT_NONE); }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;
  static std::map<void*, std::size_t>& blocks() {
    static std::map<void*, std::size_t> all;
    return all;
  }

 private:
  static int& depth() {
    static int now = 0;
    return now;
  }
  static void protect(bool change, int access) {
    if (!change) return;
    for (const auto& [p, bytes] : blocks()) mprotect(p, bytes, access);
  }
};

}  // namespace

KDLIB_NAMESPACE_BEGIN

template <>
struct Memory<Emulated> {
  static void* allocate(std::size_t bytes) {
    if (bytes == 0) return nullptr;
    void* p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require<BackendError>(p != MAP_FAILED, "[mmap] refused");
    Open::blocks()[p] = bytes;
    return p;
  }
  static void release(void* p, std::size_t bytes) noexcept {
    if (p == nullptr) return;
    Open::blocks().erase(p);
    munmap(p, bytes);
  }
  static void fill_zero(void* p, std::size_t bytes) {
    const Open open;
    if (bytes != 0) std::memset(p, 0, bytes);
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    const Open open;
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  static void from_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  static void to_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
};

template <>
struct Kernels<Emulated, double> {
  template <class... X>
  static void gemm(X... x) {
    const Open open;
    Kernels<Cpu, double>::gemm(x...);
  }
  static void gather_rows(const double* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                          double* out) {
    const Open open;
    for (std::int64_t i = 0; i < count * width; ++i) detail::GatherRow<double>{x, rows, width, out}(i);
  }
  static void scatter_add_rows(const double* x, const std::int64_t* rows, std::int64_t count, std::int64_t width,
                               double* y) {
    const Open open;
    for (std::int64_t i = 0; i < count * width; ++i) detail::ScatterAddRow<double>{x, rows, width, y}(i);
  }
};

template <>
struct RowKernels<Emulated, double> {
  template <class Loss>
  static void run(const Loss& loss, const RowTask<double>& task, RowResult* results) {
    const Open open;
    kdlib_tests::emulate_rows(loss, task, results);
  }
  static void modify_logits(const double* bias, double scale, float softcap, std::int64_t rows, std::int64_t columns,
                            double* z) {
    const Open open;
    for (std::int64_t i = 0; i < rows * columns; ++i)
      detail::ModifyLogit<double>{bias, scale, static_cast<double>(softcap), columns, z}(i);
  }
  static void softcap_backward(float softcap, std::int64_t rows, std::int64_t columns, const double* z,
                               double* gradient) {
    const Open open;
    for (std::int64_t i = 0; i < rows * columns; ++i)
      detail::SoftcapBackward<double>{1 / static_cast<double>(softcap), z, gradient}(i);
  }
};

KDLIB_NAMESPACE_END

TEST_CASE("head_loss over the CUDA row kernel's body equals the CPU's for every kind of target", "[loss]") {
  kdlib_tests::check_every_target<double, Emulated>();
}
