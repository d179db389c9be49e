// SPDX-License-Identifier: Apache-2.0
// The benchmarks of losses with a loss of one's own: half the cross-entropy and half the forward KL.
#include <kdlib/backend/cpu.hpp>

#include <benchmarks/loss_benchmarks.hpp>

#include <kdlib/loss/losses.hpp>

int main(int argc, char** argv) {
  const kdlib::Sum mine{kdlib::Term{0.5, kdlib::CrossEntropy{}}, kdlib::Term{0.5, kdlib::ForwardKl{}}};
  const loss_data::Shape rows[] = {{8, 1000}}, fused[] = {{8, 1000, 32, 48}};
  kdlib_benchmarks::bench_rows("mine", mine, rows);
  kdlib_benchmarks::bench_fused("mine", mine, fused);
  return kdlib_benchmarks::run(argc, argv);
}
