// SPDX-License-Identifier: Apache-2.0
// Arithmetic that no compiler flag changes, to hold kdlib's bits against, and fingerprints of results.
#ifndef KDLIB_TESTS_BITS_EXACT_HPP
#define KDLIB_TESTS_BITS_EXACT_HPP

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace kdlib_tests {

/// Operations of float32, each rounded once. They are formed in float64, where a product of floats is exact and the
/// other operations round so finely that rounding again to float gives the float32 result (53 >= 2 * 24 + 2 bits).
/// `volatile` keeps each of them an operation of its own.
inline float narrow(double x) {
  volatile double wide = x;
  volatile float out = static_cast<float>(wide);
  return out;
}
inline float mul(float a, float b) { return narrow(static_cast<double>(a) * static_cast<double>(b)); }
inline float add(float a, float b) { return narrow(static_cast<double>(a) + static_cast<double>(b)); }
inline float sub(float a, float b) { return add(a, -b); }
inline float div(float a, float b) { return narrow(static_cast<double>(a) / static_cast<double>(b)); }
inline float root(float a) { return narrow(std::sqrt(static_cast<double>(a))); }
/// To nearest, ties to even.
inline float nearest(float a) { return narrow(std::nearbyint(static_cast<double>(a))); }

/// The same operations of float64: a value that went through memory cannot be part of a fused operation.
inline double mul(double a, double b) {
  volatile double out = a * b;
  return out;
}
inline double add(double a, double b) {
  volatile double out = a + b;
  return out;
}
inline double div(double a, double b) {
  volatile double out = a / b;
  return out;
}
inline double root(double a) { return std::sqrt(a); }

/// FNV-1a over the bytes of everything that was given.
class Fingerprint {
 public:
  template <class T>
  void take(const std::vector<T>& values) {
    for (const T& x : values) take(x);
  }
  template <class T>
  void take(const T& x) {
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &x, sizeof x);
    for (const unsigned char b : bytes) hash_ = (hash_ ^ b) * 1099511628211u;
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 14695981039346656037u;
};

/// One line of output: "<name> <fingerprint>".
inline void print_line(const std::string& name, const Fingerprint& print) {
  std::printf("%s %016llx\n", name.c_str(), static_cast<unsigned long long>(print.value()));
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Counts what differs from the exact arithmetic; the program fails if any did.
inline int& failures() {
  static int count = 0;
  return count;
}
template <class T>
void expect_same(const std::string& what, const std::vector<T>& got, const std::vector<T>& right) {
  if (same_bits(got, right)) return;
  std::size_t different = 0, first = 0;
  for (std::size_t i = 0; i < got.size() && i < right.size(); ++i)
    if (std::memcmp(&got[i], &right[i], sizeof(T)) != 0 && different++ == 0) first = i;
  std::fprintf(stderr, "%s: %zu of %zu (%zu expected) differ, first %zu: %.9g, right %.9g\n", what.c_str(), different,
               got.size(), right.size(), first, static_cast<double>(got[first]), static_cast<double>(right[first]));
  ++failures();
}

}  // namespace kdlib_tests

#endif
