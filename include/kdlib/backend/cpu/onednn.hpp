// SPDX-License-Identifier: Apache-2.0
// Products of bf16 matrices by oneDNN: what kdlib_onednn (src/onednn/products.cpp) compiles. oneDNN's own headers are
// read there alone, so that they cost other translation units nothing.
#ifndef KDLIB_BACKEND_CPU_ONEDNN_HPP
#define KDLIB_BACKEND_CPU_ONEDNN_HPP

#include <cstdint>
#include <string>

#include "kdlib/core/dtype.hpp"

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

/// What oneDNN uses on this CPU (ONEDNN_MAX_CPU_ISA in the environment lowers it). Asked once.
NarrowUnit onednn_unit();

/// "oneDNN 2.6.3 (AMX)".
std::string onednn_name();

/// The product on the calling thread alone; the same arguments give the same bytes. Code is compiled once a shape and
/// thread, and kept. BackendError names what oneDNN refuses.
void onednn_product(const NarrowProduct& product);

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
