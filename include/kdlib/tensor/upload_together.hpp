// SPDX-License-Identifier: Apache-2.0
// Copies several arrays of the host into one block of a device's memory, with one copy.
#ifndef KDLIB_TENSOR_UPLOAD_TOGETHER_HPP
#define KDLIB_TENSOR_UPLOAD_TOGETHER_HPP

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Arrays of the types X... in one block on D, each at a multiple of 64 bytes. The tensors share the block.
template <class D, class... X>
class UploadedTogether {
 public:
  /// `counts` are the numbers of elements of the arrays.
  template <class... N>
  explicit UploadedTogether(N... counts) {
    static_assert(sizeof...(N) == sizeof...(X), "kdlib: as many counts as arrays");
    std::int64_t bytes = 0;
    ((bytes += rounded<X>(counts)), ...);
    block_ = std::make_shared<Buffer<std::byte, D>>(bytes);
    std::byte* at = block_->data();
    tensors_ = std::tuple<Tensor<X, D>...>{next<X>(at, counts)...};  // in this order
  }

  const std::tuple<Tensor<X, D>...>& tensors() const { return tensors_; }
  /// Replaces all elements. `arrays` must have as many elements as the tensors. Throws ShapeError otherwise.
  void put(std::span<const X>... arrays) const {
    std::vector<std::byte> host(static_cast<std::size_t>(block_->count()));
    std::apply([&](const auto&... to) { (place(host, to, arrays), ...); }, tensors_);
    Memory<D>::from_host(block_->data(), host.data(), host.size());
  }

 private:
  template <class E>
  static std::int64_t rounded(std::int64_t count) {
    return (count * static_cast<std::int64_t>(sizeof(E)) + 63) / 64 * 64;
  }
  template <class E>
  Tensor<E, D> next(std::byte*& at, std::int64_t count) const {
    auto* const begin = reinterpret_cast<E*>(at);
    at += rounded<E>(count);
    return Tensor<E, D>::borrow(std::shared_ptr<E>(block_, begin), Shape{count});
  }
  template <class E>
  void place(std::vector<std::byte>& host, const Tensor<E, D>& to, std::span<const E> from) const {
    require<ShapeError>(to.count() == static_cast<std::int64_t>(from.size()), "[UploadedTogether] an array of ",
                        from.size(), " elements for ", to.count());
    const std::ptrdiff_t at = reinterpret_cast<std::byte*>(to.data()) - block_->data();
    if (!from.empty()) std::memcpy(host.data() + at, from.data(), from.size_bytes());
  }

  std::shared_ptr<Buffer<std::byte, D>> block_;
  std::tuple<Tensor<X, D>...> tensors_;
};

/// Returns copies of the arrays as tensors on D.
template <class D, class... X>
std::tuple<Tensor<X, D>...> upload_together(const std::vector<X>&... arrays) {
  const UploadedTogether<D, X...> there(static_cast<std::int64_t>(arrays.size())...);
  there.put(std::span<const X>(arrays)...);
  return there.tensors();
}

KDLIB_NAMESPACE_END

#endif
