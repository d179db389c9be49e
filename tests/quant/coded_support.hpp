// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of coded weights: random weights, decoding, CPU levels, reference files.
#ifndef KDLIB_TESTS_QUANT_CODED_SUPPORT_HPP
#define KDLIB_TESTS_QUANT_CODED_SUPPORT_HPP

#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/quant/coded_matrix.hpp"

namespace kdlib_tests {

inline std::vector<float> random_weights(std::int64_t n, std::uint32_t row) {
  std::vector<float> w(static_cast<std::size_t>(n));
  const kdlib::Rng rng(5, kdlib::RngPurpose::test, 0, row);
  for (std::size_t i = 0; i < w.size(); ++i)
    w[i] = static_cast<float>(rng.uniform(static_cast<std::uint32_t>(i)) * 2 - 1);
  return w;
}

template <class T>
std::vector<T> decoded(const kdlib::CodedData& data) {
  const kdlib::CodedMatrix<T, kdlib::Cpu> m(data);
  std::vector<T> out(static_cast<std::size_t>(data.rows * data.columns));
  m.decode(0, data.rows, out.data());
  return out;
}

/// Codes of the matrix in row-major order, one an element.
inline std::vector<std::uint8_t> all_codes(const kdlib::CodedData& data) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(data.rows * data.columns));
  for (std::int64_t r = 0; r < data.rows; ++r)
    kdlib::unpack_codes(data.codes.data() + r * data.row_bytes(), data.bits(),
                        std::span<std::uint8_t>(out).subspan(static_cast<std::size_t>(r * data.columns),
                                                             static_cast<std::size_t>(data.columns)));
  return out;
}
/// The same as signed integers.
inline std::vector<int> signed_codes(const kdlib::CodedData& data) {
  const int n = 1 << (data.bits() - 1);
  std::vector<int> out;
  for (const std::uint8_t c : all_codes(data)) out.push_back(c < n ? c : c - 2 * n);
  return out;
}

inline std::vector<std::uint8_t> bytes_of(const kdlib::TensorInfo& t) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(t.data.data());
  return {p, p + t.data.size()};
}

/// Every instruction set of this CPU in turn, the best again at the end.
template <class F>
void for_each_level(F&& f) {
  for (const kdlib::CpuLevel l : {kdlib::CpuLevel::portable, kdlib::CpuLevel::avx2, kdlib::CpuLevel::avx512}) {
    if (l > kdlib::detail::best_cpu_level()) continue;
    kdlib::set_cpu_level(l);
    f(l);
  }
  kdlib::set_cpu_level(kdlib::detail::best_cpu_level());
}

}  // namespace kdlib_tests

#endif
