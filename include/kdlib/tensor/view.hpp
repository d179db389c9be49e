// SPDX-License-Identifier: Apache-2.0
// A pointer with a shape: row-major, contiguous, and not an owner. View<const T, D> is read-only.
#ifndef KDLIB_TENSOR_VIEW_HPP
#define KDLIB_TENSOR_VIEW_HPP

#include <type_traits>

#include "kdlib/core/shape.hpp"
#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// Data that another object owns: a pointer and a Shape, row-major. A view is cheap to copy; the owner must outlive it.
template <class T, class D>
class View {
 public:
  using scalar_type = T;
  using device_type = D;

  View() = default;
  View(T* data, Shape shape) : data_(data), shape_(shape) {}
  /// A view of mutable data is a view of constant data.
  template <class U>
  requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>) View(const View<U, D>& other)
      : data_(other.data()), shape_(other.shape()) {}

  T* data() const { return data_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t operator[](int i) const { return shape_[i]; }
  std::int64_t count() const { return shape_.count(); }
  bool empty() const { return count() == 0 || data_ == nullptr; }

  /// Returns rows [begin, begin + rows) along the first dimension. Throws ShapeError if they are not all there.
  View rows(std::int64_t begin, std::int64_t rows) const {
    require<ShapeError>(rank() >= 1 && begin >= 0 && rows >= 0 && begin + rows <= shape_[0], "[View::rows] rows ",
                        begin, " to ", begin + rows, " of ", shape_);
    Shape s{rows};
    for (int i = 1; i < rank(); ++i) s.push_back(shape_[i]);
    return View(data_ + begin * (shape_[0] == 0 ? 0 : count() / shape_[0]), s);
  }
  /// Returns the same elements under another shape of equal count. Throws ShapeError for another count.
  View reshape(Shape shape) const {
    require<ShapeError>(shape.count() == count(), "[View::reshape] ", shape_, " has not the element count of ", shape);
    return View(data_, shape);
  }

 private:
  T* data_ = nullptr;
  Shape shape_{0};
};

KDLIB_NAMESPACE_END

#endif
