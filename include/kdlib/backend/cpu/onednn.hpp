// SPDX-License-Identifier: Apache-2.0
// Products of bf16 matrices by oneDNN: what kdlib_onednn (src/onednn/products.cpp) compiles. oneDNN's own headers are
// read there alone, so that they cost other translation units nothing.
#ifndef KDLIB_BACKEND_CPU_ONEDNN_HPP
#define KDLIB_BACKEND_CPU_ONEDNN_HPP

#include <cstdint>
#include <string>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The instructions that multiply bf16: none, AVX512-BF16 (vdpbf16ps), or the tiles of AMX.
enum class NarrowUnit : int { none = 0, avx512_bf16 = 1, amx = 2 };

/// C[m, n] = alpha * op(A) op(B) + beta * C, row-major, leading dimensions in elements; sums are of float and are
/// rounded once where C is of bf16. m, n, k >= 1; beta = 0 never reads C.
struct NarrowProduct {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const bf16* a = nullptr;
  std::int64_t lda = 0;
  const bf16* b = nullptr;
  std::int64_t ldb = 0;
  float beta = 0;
  bool wide = false;  // C is of float
  void* c = nullptr;
  std::int64_t ldc = 0;
};

/// What oneDNN has on this CPU (ONEDNN_MAX_CPU_ISA in the environment lowers it). Asked once.
NarrowUnit onednn_unit();

/// Whether oneDNN multiplies bf16 with `unit` faster than the float code multiplies floats. AMX: always. AVX512-BF16:
/// on AMD alone, whose vdpbf16ps does 32 products where a cycle of float code does 16; on Intel both do 32, and oneDNN
/// 2.6.3 reached 153 GFLOP/s where OpenBLAS reached 200 (decision 011). `wish`: KDLIB_BF16_PRODUCTS or null, "auto",
/// "onednn" (wherever the CPU has an instruction) or "float" (nowhere). ConfigError: another word.
inline bool onednn_pays(NarrowUnit unit, bool amd, const char* wish) {
  const std::string text = wish == nullptr ? "auto" : wish;
  if (text == "float" || unit == NarrowUnit::none) return false;
  if (text == "onednn") return true;
  require<ConfigError>(text == "auto", "[bf16 products] KDLIB_BF16_PRODUCTS=", text,
                       " is unknown; it can be auto, onednn or float");
  return unit == NarrowUnit::amx || amd;
}

/// "oneDNN 2.6.3 (AMX)".
std::string onednn_name();

/// The product on the calling thread alone; the same arguments give the same bytes. Code is compiled once a shape and
/// thread, and kept. BackendError names what oneDNN refuses.
void onednn_product(const NarrowProduct& product);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
