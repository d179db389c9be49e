// SPDX-License-Identifier: Apache-2.0
// Numbers that kernels are compared on.
#ifndef KDLIB_TESTS_SUPPORT_NUMBERS_HPP
#define KDLIB_TESTS_SUPPORT_NUMBERS_HPP

#include <cstdint>
#include <vector>

namespace kdlib_tests {

/// `n` numbers about `mean`, spread about `spread`: sums of four uniform ones, the same for the same seed.
inline std::vector<double> spread_numbers(std::int64_t n, std::uint64_t seed, double spread, double mean) {
  std::vector<double> out;
  std::uint64_t state = seed * 2654435761u + 12345;
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int k = 0; k < 4; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<double>(state >> 33) / 2147483648.0 - 0.5;
    }
    out.push_back(mean + spread * 1.7 * sum);
  }
  return out;
}

}  // namespace kdlib_tests

#endif
