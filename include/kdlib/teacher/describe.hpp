// SPDX-License-Identifier: Apache-2.0
// What a checkpoint keeps of a teacher, so that a resumed run can notice another teacher.
#ifndef KDLIB_TEACHER_DESCRIBE_HPP
#define KDLIB_TEACHER_DESCRIBE_HPP

#include <algorithm>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/core/fingerprint.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Adds the shape, the first 32 and the last 32 elements of a tensor to the fingerprint. Other models differ in these
/// elements, and reading them is cheap for weights in a mapped file.
template <class T, class D>
void add_ends(Fingerprint& fingerprint, const Tensor<T, D>& tensor) {
  fingerprint.add(std::string_view(tensor.shape().text()));
  const std::int64_t count = tensor.count(), some = std::min<std::int64_t>(32, count);
  if (tensor.data() == nullptr || some == 0) return;
  std::vector<T> host(static_cast<std::size_t>(some));
  for (const std::int64_t begin : {std::int64_t{0}, count - some}) {
    Memory<D>::to_host(host.data(), tensor.data() + begin, host.size() * sizeof(T));
    fingerprint.add(host.data(), host.size() * sizeof(T));
  }
}

}  // namespace detail

/// Returns {"teacher", kind}, the size of the vocabulary and, if the model names its weights, "teacher.weights": a
/// fingerprint of parameters() and packed_weights(). The fingerprint covers a sample of the weights: it tells models
/// apart but does not find every changed bit.
template <class M>
SettingsList describe_teacher(M& model, const char* kind) {
  SettingsList list = {{"teacher", kind}, {"teacher.vocabulary", setting_text(model.vocab_size())}};
  if constexpr (requires { model.parameters(); }) {
    Fingerprint fingerprint;
    for (const auto* parameter : model.parameters()) {
      fingerprint.add(std::string_view(parameter->name));
      detail::add_ends(fingerprint, parameter->value);
    }
    if constexpr (requires { model.packed_weights(); }) {
      using T = typename M::scalar_type;
      using D = typename M::device_type;
      for (const auto& packed : model.packed_weights()) {
        fingerprint.add(std::string_view(packed.name));
        for (const std::int64_t row : {std::int64_t{0}, packed.matrix->rows() - 1}) {
          Tensor<T, D> decoded(Shape{1, packed.matrix->columns()});
          packed.matrix->decode(row, 1, decoded.data());
          detail::add_ends(fingerprint, decoded);
        }
      }
    }
    list.emplace_back("teacher.weights", fingerprint.text());
  }
  return list;
}

KDLIB_NAMESPACE_END

#endif
