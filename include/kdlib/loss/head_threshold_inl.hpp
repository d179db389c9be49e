// SPDX-License-Identifier: Apache-2.0
// Backward products of the fused pass without the blocks of the logits' gradient that a threshold leaves out. A block
// is one column of a group of rows: the columns that a group keeps are gathered, so that dense products do the work.
#ifndef KDLIB_LOSS_HEAD_THRESHOLD_INL_HPP
#define KDLIB_LOSS_HEAD_THRESHOLD_INL_HPP

#include <algorithm>
#include <vector>

#include "kdlib/core/parallel.hpp"
#include "kdlib/quant/head_product.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t threshold_rows = 128;  // of a group

/// The columns that a group of rows keeps, and its products. For the host: the choice is made there.
template <class T, class D>
class KeptColumns {
  using L = logit_t<D, T>;
  using A = accumulate_t<T>;

 public:
  KeptColumns(const HeadView<T, D>& head, std::int64_t columns, double threshold)
      : head_(head), columns_(columns), threshold_(static_cast<L>(threshold)) {}

  /// Looks at the gradient [rows, columns] of a group and answers the share of its columns that is left out: those with
  /// no entry of `threshold` times its row's largest. 0 where too many stay for gathering them to pay, or where a row
  /// is not finite, which must be seen.
  double choose(std::int64_t rows, const L* gradient) {
    kept_.clear();
    std::vector<L> factors(static_cast<std::size_t>(rows));
    peaks_.resize(static_cast<std::size_t>(columns_));
    Kernels<D, L>::largest_magnitudes(gradient, rows, columns_, factors.data());
    for (L& x : factors) {
      if (!(x == 0 || (x > L(1e-30) && x < L(1e30)))) return 0;
      x = x == 0 ? L(0) : 1 / x;
    }
    Kernels<D, L>::column_peaks(gradient, rows, columns_, factors.data(), peaks_.data());
    for (std::int64_t c = 0; c < columns_; ++c)
      if (!(peaks_[static_cast<std::size_t>(c)] < threshold_)) kept_.push_back(c);
    const std::int64_t left_out = columns_ - static_cast<std::int64_t>(kept_.size());
    return 4 * left_out < columns_ ? 0 : static_cast<double>(left_out) / static_cast<double>(columns_);
  }

  /// The products of the group that was chosen last: out[rows, H] is written, and head_gradient [V, H], unless nullptr,
  /// added to. Panels of 4 Mi elements of the weight are gathered.
  void multiply(std::int64_t rows, A alpha, const L* gradient, const T* hidden, T* out,
                gradient_t<T>* head_gradient) const {
    constexpr std::int64_t elements = 1 << 22;
    const std::int64_t width = head_.weight[1], count = static_cast<std::int64_t>(kept_.size());
    const std::int64_t panel = std::min(count, std::max<std::int64_t>(1, elements / width));
    const Buffer<L, D> part(rows * panel);
    const Buffer<T, D> weight(panel * width);
    const Buffer<gradient_t<T>, D> added(head_gradient != nullptr ? panel * width : 0);
    const Buffer<A, D> sums(std::is_same_v<A, T> ? 0 : rows * width);
    A* sum = sums.data();
    if constexpr (std::is_same_v<A, T>) sum = out;
    if (count == 0) std::fill_n(sum, rows * width, A(0));
    for (std::int64_t at = 0; at < count; at += panel) {
      const std::int64_t n = std::min(panel, count - at), *ids = kept_.data() + at;
      gather_part(rows, n, ids, gradient, part.data());
      gather_weight(n, ids, weight.data());
      Kernels<D, T>::gemm(false, false, rows, width, n, alpha, part.data(), n, weight.data(), width, at == 0 ? 0 : 1,
                          sum, width);
      if (head_gradient == nullptr) continue;
      Kernels<D, T>::gemm(true, false, n, width, rows, alpha, part.data(), n, hidden, width, 0, added.data(), width);
      Kernels<D, gradient_t<T>>::scatter_add_rows(added.data(), ids, n, width, head_gradient);
    }
    if constexpr (!std::is_same_v<A, T>) Kernels<D, T>::narrow(rows * width, sum, out);
  }

 private:
  void gather_part(std::int64_t rows, std::int64_t n, const std::int64_t* ids, const L* gradient, L* part) const {
    parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        for (std::int64_t c = 0; c < n; ++c) part[r * n + c] = gradient[r * columns_ + ids[c]];
    });
  }
  void gather_weight(std::int64_t n, const std::int64_t* ids, T* weight) const {
    const std::int64_t width = head_.weight[1];
    if (head_.packed == nullptr) return Kernels<D, T>::gather_rows(head_.weight.data(), ids, n, width, weight);
    const std::vector<std::int32_t> narrow(ids, ids + n);
    parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
      head_.packed->gather(narrow.data() + begin, end - begin, weight + begin * width);
    });
  }

  const HeadView<T, D>& head_;
  std::int64_t columns_;
  L threshold_;
  std::vector<L> peaks_;
  std::vector<std::int64_t> kept_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
