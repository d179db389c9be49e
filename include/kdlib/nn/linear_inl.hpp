// SPDX-License-Identifier: Apache-2.0
// Bodies of linear.hpp.
#ifndef KDLIB_NN_LINEAR_INL_HPP
#define KDLIB_NN_LINEAR_INL_HPP

#include "kdlib/nn/linear.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A parameter with a shape and no memory: whoever fills it takes that first (allocate_parameters), after checking its
/// source.
template <class D, class T>
std::unique_ptr<Parameter<T, D>> make_parameter(std::string name, Shape shape) {
  auto p = std::make_unique<Parameter<T, D>>();
  p->name = std::move(name);
  p->value = Tensor<T, D>::borrow(nullptr, shape);
  p->decays = shape.rank() > 1;
  return p;
}

/// Another parameter over the same elements, frozen.
template <class D, class T>
std::unique_ptr<Parameter<T, D>> share_parameter(const std::unique_ptr<Parameter<T, D>>& p) {
  if (p == nullptr) return nullptr;
  auto copy = std::make_unique<Parameter<T, D>>();
  copy->name = p->name;
  copy->value = p->value;
  copy->decays = p->decays;
  return copy;
}

}  // namespace detail

template <class D, class T>
Linear<D, T>::Linear(std::string path_, std::int64_t in_, std::int64_t out_, bool has_bias)
    : path(std::move(path_)), in(in_), out(out_) {
  weight_ = detail::make_parameter<D, T>(path + ".weight", Shape{out, in});
  if (has_bias) bias = detail::make_parameter<D, T>(path + ".bias", Shape{out});
}

template <class D, class T>
std::shared_ptr<const PackedMatrix<T, D>> Linear<D, T>::packed() const {
  if (state_ == LinearState::student) return student_->codes();
  return packed_;
}

template <class D, class T>
void Linear<D, T>::pack(std::shared_ptr<const PackedMatrix<T, D>> matrix) {
  require<ShapeError>(matrix != nullptr && matrix->rows() == out && matrix->columns() == in, "[Linear::pack] ", path,
                      " needs a matrix [", out, ", ", in, "]");
  student_.reset();  // it refers to the weight
  weight_.reset();
  before_merge_ = Tensor<T, D>();
  packed_ = std::move(matrix);
  state_ = LinearState::packed;
}

template <class D, class T>
void Linear<D, T>::set_dense(Tensor<T, D> values) {
  require<ShapeError>(values.shape() == Shape{out, in}, "[Linear::set_dense] ", path, " needs values [", out, ", ", in,
                      "], not ", values.shape());
  student_.reset();
  packed_.reset();
  before_merge_ = Tensor<T, D>();
  weight_ = detail::make_parameter<D, T>(path + ".weight", Shape{out, in});
  weight_->value = std::move(values);
  state_ = LinearState::dense;
}

template <class D, class T>
void Linear<D, T>::begin_student(std::unique_ptr<QuantizedWeight<D, T>> codes) {
  require<ConfigError>(state_ == LinearState::dense && !merged() && codes != nullptr, "[Linear::begin_student] ", path,
                       " is not dense");
  student_ = std::move(codes);
  if (student_->trains() == TrainedPart::scales) weight_.reset();
  state_ = LinearState::student;
}

template <class D, class T>
void Linear<D, T>::merge(Tensor<T, D> sum) {
  require<ConfigError>(state_ == LinearState::dense && !merged(), "[Linear::merge] ", path,
                       " is not dense, or merged already");
  before_merge_ = std::exchange(weight_->value, std::move(sum));
}

template <class D, class T>
void Linear<D, T>::unmerge() {
  if (merged()) weight_->value = std::exchange(before_merge_, Tensor<T, D>());
}

template <class D, class T>
LinearOperand<T, D> Linear<D, T>::operand(bool adapter) const {
  LinearOperand<T, D> o;
  o.bias = bias.get();
  if (adapter_in_codes() && !adapter) {
    o.weight = weight();
    return o;
  }
  if (state_ == LinearState::dense) o.weight = weight();
  else o.packed = packed().get();  // this map keeps it alive
  if (QuantizedWeight<D, T>* codes = student()) {
    o.packed_gradient = codes->gradient_sink();
    o.lora_in_codes = adapter_in_codes();
    if (o.packed_gradient != nullptr && o.lora_in_codes) return o;  // it gives A and B their gradient
  }
  if (adapter && lora != nullptr && !merged()) {
    o.lora_a = &lora->a;
    o.lora_b = &lora->b;
    o.lora_scale = static_cast<accumulate_t<T>>(lora->scale);
  }
  return o;
}

template <class D, class T>
void Linear<D, T>::append_parameters(std::vector<Parameter<T, D>*>& list) const {
  if (weight() != nullptr) list.push_back(weight());
  if (bias != nullptr) list.push_back(bias.get());
  if (lora != nullptr) list.insert(list.end(), {&lora->a, &lora->b});
  if (student() != nullptr) student()->append_parameters(list);
}

template <class D, class T>
Linear<D, T> Linear<D, T>::share() const {
  Linear copy;
  copy.path = path;
  copy.in = in;
  copy.out = out;
  copy.bias = detail::share_parameter<D, T>(bias);
  if (state_ == LinearState::dense) {
    copy.weight_ = detail::share_parameter<D, T>(weight_);
    if (merged()) copy.weight_->value = before_merge_;
  } else {
    copy.packed_ = packed();
    copy.state_ = LinearState::packed;
  }
  return copy;
}

template <class D, class T>
std::vector<Parameter<T, D>*> parameters_behind_codes(const std::vector<Linear<D, T>*>& linears) {
  std::vector<Parameter<T, D>*> list;
  for (const Linear<D, T>* l : linears) {
    if (l->student() == nullptr) continue;
    if (l->weight() != nullptr) list.push_back(l->weight());
    l->student()->append_parameters(list);
  }
  return list;
}

KDLIB_NAMESPACE_END

#endif
