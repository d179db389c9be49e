// SPDX-License-Identifier: Apache-2.0
// Arrays that lie on a device in T and on the host in double, rounded alike, for kernels against Kernels<Cpu, double>.
#ifndef KDLIB_TESTS_CUDA_KERNEL_CASES_HPP
#define KDLIB_TESTS_CUDA_KERNEL_CASES_HPP

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/backend/cuda.hpp"
#include "kdlib/tensor/tensor.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/tolerance.hpp"

namespace kdlib_tests {

/// ||a - b|| / ||b|| of a kernel against double on the same rounded inputs.
template <class T>
constexpr double kernel_tolerance = 1e-5;
template <>
inline constexpr double kernel_tolerance<kdlib::bf16> = 4e-3;

template <class T>
class Array {
 public:
  /// `n` numbers about `mean`, spread about `spread`.
  Array(std::int64_t n, std::uint64_t seed, double spread = 1, double mean = 0)
      : Array(spread_numbers(n, seed, spread, mean)) {}
  explicit Array(const std::vector<double>& values) : buffer_(static_cast<std::int64_t>(values.size())) {
    for (const double x : values) push(x);
    restore();
  }

  T* device() const { return buffer_.data(); }
  double* wide() { return wide_.data(); }
  std::int64_t count() const { return buffer_.count(); }
  /// The device's numbers are those of before.
  void restore() const { kdlib::Memory<kdlib::Cuda>::from_host(buffer_.data(), host_.data(), bytes()); }
  std::vector<T> host() const {
    std::vector<T> out(host_.size());
    kdlib::Memory<kdlib::Cuda>::to_host(out.data(), buffer_.data(), bytes());
    return out;
  }
  /// ||device - wide|| / ||wide||; NaN where either has one.
  double error() const {
    const std::vector<T> got = host();
    return std::sqrt(normalised_square_error(got.data(), wide_.data(), got.size()));
  }
  /// The host's numbers become the device's: an output is the input of what follows, rounded alike.
  void adopt() {
    host_ = host();
    for (std::size_t i = 0; i < host_.size(); ++i) wide_[i] = static_cast<double>(host_[i]);
  }
  double at(std::int64_t i) const { return static_cast<double>(host()[static_cast<std::size_t>(i)]); }
  void set(std::int64_t i, double x) {
    host_[static_cast<std::size_t>(i)] = T(static_cast<float>(x));
    wide_[static_cast<std::size_t>(i)] = x;
    restore();
  }

 private:
  std::size_t bytes() const { return host_.size() * sizeof(T); }
  void push(double x) {
    host_.push_back(T(static_cast<float>(x)));
    wide_.push_back(static_cast<double>(host_.back()));
  }

  kdlib::Buffer<T, kdlib::Cuda> buffer_;
  std::vector<T> host_;
  std::vector<double> wide_;
};

/// An index array on host and device.
template <class I>
class Indices {
 public:
  explicit Indices(const std::vector<I>& values) : host_(values), buffer_(static_cast<std::int64_t>(values.size())) {
    kdlib::Memory<kdlib::Cuda>::from_host(buffer_.data(), host_.data(), host_.size() * sizeof(I));
  }
  const I* device() const { return buffer_.data(); }
  const I* host() const { return host_.data(); }

 private:
  std::vector<I> host_;
  kdlib::Buffer<I, kdlib::Cuda> buffer_;
};

/// Runs `op` twice on the same inputs: the same bytes come out.
template <class F, class... A>
void check_repeats(F&& op, const A&... outputs) {
  const auto run = [&] {
    (outputs.restore(), ...);
    op();
    std::vector<unsigned char> all;
    const auto append = [&](const auto& values) {
      const auto* p = reinterpret_cast<const unsigned char*>(values.data());
      all.insert(all.end(), p, p + values.size() * sizeof(values[0]));
    };
    (append(outputs.host()), ...);
    return all;
  };
  const auto first = run();
  CHECK(first == run());
}

#define KDLIB_NEEDS_DEVICE() \
  if (kdlib::cuda_device_count() == 0) KDLIB_SKIP("CUDA kernels: no device answers")

}  // namespace kdlib_tests

#endif
