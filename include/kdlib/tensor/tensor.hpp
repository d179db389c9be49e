// SPDX-License-Identifier: Apache-2.0
// An array with a shape. Copies share its memory (like a shared_ptr). It may also borrow mapped memory and keep the
// owner of that memory alive.
#ifndef KDLIB_TENSOR_TENSOR_HPP
#define KDLIB_TENSOR_TENSOR_HPP

#include <memory>
#include <utility>
#include <vector>

#include "kdlib/tensor/buffer.hpp"
#include "kdlib/tensor/view.hpp"

KDLIB_NAMESPACE_BEGIN

/// A row-major, contiguous array. Copying a tensor shares the elements; clone() copies them.
template <class T, class D>
class Tensor {
 public:
  using scalar_type = T;
  using device_type = D;

  Tensor() = default;
  /// Makes a tensor of uninitialised elements.
  explicit Tensor(Shape shape) : shape_(shape) {
    auto buffer = std::make_shared<Buffer<T, D>>(shape.count());
    data_ = std::shared_ptr<T>(buffer, buffer->data());
  }
  /// Makes a tensor of elements that are stored elsewhere (in a mapped file). `data` keeps their owner alive. The
  /// elements must not be written.
  static Tensor borrow(std::shared_ptr<T> data, Shape shape) {
    Tensor t;
    t.data_ = std::move(data);
    t.shape_ = shape;
    return t;
  }
  static Tensor zeros(Shape shape) {
    Tensor t(shape);
    t.fill_zero();
    return t;
  }

  T* data() const { return data_.get(); }
  const Shape& shape() const { return shape_; }
  std::int64_t operator[](int i) const { return shape_[i]; }
  std::int64_t count() const { return data_ == nullptr ? 0 : shape_.count(); }
  std::int64_t bytes() const { return count() * static_cast<std::int64_t>(sizeof(T)); }
  /// True if the tensor holds elements.
  explicit operator bool() const { return data_ != nullptr; }

  View<T, D> view() { return {data(), shape_}; }
  View<const T, D> view() const { return {data(), shape_}; }
  operator View<T, D>() { return view(); }
  operator View<const T, D>() const { return view(); }
  View<T, D> rows(std::int64_t begin, std::int64_t count) { return view().rows(begin, count); }
  View<const T, D> rows(std::int64_t begin, std::int64_t count) const { return view().rows(begin, count); }

  void fill_zero() { Memory<D>::fill_zero(data(), static_cast<std::size_t>(bytes())); }
  Tensor clone() const {
    Tensor t(shape_);
    Memory<D>::copy(t.data(), data(), static_cast<std::size_t>(bytes()));
    return t;
  }
  Tensor reshape(Shape shape) const {
    require<ShapeError>(shape.count() == shape_.count(), "[Tensor::reshape] ", shape_, " has not the element count of ",
                        shape);
    Tensor t = *this;
    t.shape_ = shape;
    return t;
  }
  /// Drops the elements. Their memory is freed if no other tensor shares it.
  void reset() { *this = Tensor(); }

 private:
  std::shared_ptr<T> data_;
  Shape shape_{0};
};

/// Returns a copy of the values in host memory, in order.
template <class T, class D>
std::vector<T> host_copy(View<const T, D> values) {
  std::vector<T> out(static_cast<std::size_t>(values.count()));
  Memory<D>::to_host(out.data(), values.data(), out.size() * sizeof(T));
  return out;
}

KDLIB_NAMESPACE_END

#endif
