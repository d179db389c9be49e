// SPDX-License-Identifier: Apache-2.0
// Products of bf16 matrices by oneDNN. The library kdlib_onednn (src/onednn/products.cpp) compiles the bodies, and only
// that file reads oneDNN's own headers, so that they cost other translation units nothing.
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

/// The product C[m, n] = alpha * op(A) op(B) + beta * C of row-major matrices, with leading dimensions in elements.
/// Sums are formed in float and rounded once if C is bf16. m, n, k >= 1. With beta = 0, C is never read.
struct NarrowProduct {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const bf16* a = nullptr;
  std::int64_t lda = 0;
  const bf16* b = nullptr;
  std::int64_t ldb = 0;
  float beta = 0;
  bool wide = false;  // true: C is float; false: C is bf16
  void* c = nullptr;
  std::int64_t ldc = 0;
};

/// Returns the instructions that oneDNN uses on this CPU (ONEDNN_MAX_CPU_ISA in the environment lowers them). oneDNN is
/// asked once.
NarrowUnit onednn_unit();

/// Returns whether oneDNN should multiply bf16 with `unit`, because this is faster than multiplying floats. With AMX
/// the answer is always yes. With AVX512-BF16 the answer is yes on AMD only: there vdpbf16ps does 32 products in a
/// cycle and float code 16, but on Intel both do 32, and oneDNN 2.6.3 reached 153 GFLOP/s where OpenBLAS reached 200
/// (decision 011). `wish` is the value of KDLIB_BF16_PRODUCTS: null or "auto", "onednn" (yes wherever the CPU has an
/// instruction) or "float" (never). ConfigError: another word.
inline bool onednn_pays(NarrowUnit unit, bool amd, const char* wish) {
  const std::string text = wish == nullptr ? "auto" : wish;
  if (text == "float" || unit == NarrowUnit::none) return false;
  if (text == "onednn") return true;
  require<ConfigError>(text == "auto", "[bf16 products] KDLIB_BF16_PRODUCTS=", text,
                       " is unknown; it can be auto, onednn or float");
  return unit == NarrowUnit::amx || amd;
}

/// Returns oneDNN's version and instructions, such as "oneDNN 2.6.3 (AMX)".
std::string onednn_name();

/// Computes the product on the calling thread alone. The same arguments give the same bytes. oneDNN generates code once
/// for each shape and thread, and the code is kept. BackendError names what oneDNN refuses.
void onednn_product(const NarrowProduct& product);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
