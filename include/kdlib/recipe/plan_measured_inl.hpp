// SPDX-License-Identifier: Apache-2.0
// Templates of plan.hpp: what a device does in a second.
#ifndef KDLIB_RECIPE_PLAN_MEASURED_INL_HPP
#define KDLIB_RECIPE_PLAN_MEASURED_INL_HPP

#include <algorithm>
#include <chrono>

#include "kdlib/recipe/number_text.hpp"
#include "kdlib/recipe/plan.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class F>
double best_seconds(int rounds, F&& f) {
  double best = 1e300;
  for (int r = 0; r < rounds; ++r) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

/// The sizes of what kdlib keeps of a model of T on device D.
template <class D, class T>
void set_scalar_type(PlanMachine& m) {
  m.dtype = dtype_text<T>();
  m.scalar_bytes = m.teacher_expert_bytes = static_cast<double>(sizeof(T));
  m.gradient_bytes = m.moment_bytes = static_cast<double>(sizeof(gradient_t<T>));
  m.master_bytes = is_sixteen_bit<T> ? static_cast<double>(sizeof(gradient_t<T>)) : 0.0;
  m.logit_bytes = static_cast<double>(sizeof(logit_t<D, T>));
}

/// Bytes that this machine can still give to tensors of device D. 0: unknown.
template <class D>
double available_memory_of() {
  if constexpr (requires { Memory<D>::available(); }) return Memory<D>::available();
  else return available_memory();
}

}  // namespace detail

template <class D, class T>
PlanMachine measured_machine(const DecoderConfig& c) {
  const std::int64_t rows = 512, batch = 16, h = std::min<std::int64_t>(c.hidden_size, 2048),
                     i = std::min<std::int64_t>(c.intermediate_size, 4096);
  const std::int64_t v = std::min<std::int64_t>(c.vocab_size, (std::int64_t{1} << 25) / h);
  Tensor<T, D> x = Tensor<T, D>::zeros({rows, h}), w = Tensor<T, D>::zeros({i, h}), y({rows, i}),
               head = Tensor<T, D>::zeros({v, h}), z({batch, v});
  T last;  // reading a number waits for the device
  const double many = detail::best_seconds(4, [&] {
    Kernels<D, T>::gemm(false, true, rows, i, h, 1, x.data(), h, w.data(), h, 0, y.data(), i);
    Memory<D>::to_host(&last, y.data(), sizeof(last));
  });
  const double few = detail::best_seconds(3, [&] {
    Kernels<D, T>::gemm(false, true, batch, v, h, 1, x.data(), h, head.data(), h, 0, z.data(), v);
    Memory<D>::to_host(&last, z.data(), sizeof(last));
  });
  PlanMachine m;
  m.name = std::is_same_v<D, Cpu> ? "this machine's CPU" : concat("this machine's ", D::name, " device");
  m.flops = 2.0 * static_cast<double>(rows) * static_cast<double>(h) * static_cast<double>(i) / many;
  m.bandwidth = static_cast<double>(v) * static_cast<double>(h) * static_cast<double>(sizeof(T)) / few;
  m.basis = concat("measured: ", detail::number_text("%.0f", m.flops / 1e9), " GFLOP/s in large products, ",
                   detail::number_text("%.1f", m.bandwidth / 1e9), " GB/s of weights for 16 rows");
  m.memory = detail::available_memory_of<D>();
  detail::set_scalar_type<D, T>(m);
  return m;
}

KDLIB_NAMESPACE_END

#endif
