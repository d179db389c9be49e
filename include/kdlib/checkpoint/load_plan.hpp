// SPDX-License-Identifier: Apache-2.0
// What loading a model will do: for each tensor of its files the parameter, the rows and the decoding. One kind of plan
// for Hugging Face directories, packed directories and GGUF files; it is made and checked before memory is taken.
#ifndef KDLIB_CHECKPOINT_LOAD_PLAN_HPP
#define KDLIB_CHECKPOINT_LOAD_PLAN_HPP

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/checkpoint/tensor_rows.hpp"
#include "kdlib/io/gguf_types.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// How the bytes of a tensor in a file become rows of a weight.
enum class TensorDecoding : std::uint8_t {
  elements,    // rows of an element type or of GGUF's blocks
  transposed,  // experts [E, in, out] of a parameter [E, out, in]
  mxfp4,       // codes of experts; the scales are the next tensor of the parameter
  mxfp4_scales,
  codes  // a part of a packed matrix (packed_format.hpp)
};

/// A tensor of a file and what becomes of it.
struct PlannedTensor {
  std::string name, file;             // in the file; its path
  std::string type, shape;            // as the file names them
  GgufType elements = GgufType::f32;  // for TensorDecoding::elements and transposed
  TensorDecoding decoding = TensorDecoding::elements;
  TensorRows rows;
  std::span<const std::byte> data;

  /// "F32, all rows", "Q4_K, rows 0 to 5, interleaved by heads of 64".
  std::string text(std::int64_t parameter_rows) const;
};

/// A weight of the model and the tensors that give it its values, in the order of its rows.
struct PlannedWeight {
  std::string name;
  Shape shape;
  bool packable = false;
  std::vector<PlannedTensor> tensors;
  bool zero = false;  // no tensor: a bias that the file holds in other layers only

  std::int64_t row_count() const { return shape.count() / shape[shape.rank() - 1]; }
};

/// A tensor of a file that no weight takes, and why this is harmless (one sentence).
struct IgnoredTensor {
  std::string name, reason;
};

/// Why a file and a configuration do not fit; sorted by this order, so that what causes the others comes first.
enum class LoadProblemKind : std::uint8_t { missing, unfit, surplus };
struct LoadProblem {
  LoadProblemKind kind = LoadProblemKind::missing;
  std::string text;  // one sentence with file, tensor, what is expected and what is there
};

/// What loading a model will do: the weights with the tensors that they are made of, what is left out, and what does
/// not fit.
struct LoadPlan {
  std::string path;
  DecoderConfig config;  // tied_head as the files decide
  std::vector<PlannedWeight> weights;
  std::vector<IgnoredTensor> ignored;  // by name
  std::vector<LoadProblem> problems;
  std::vector<std::string> notes;      // odd but harmless
  std::optional<PackedFormat> packed;  // of a packed directory
  std::shared_ptr<const void> files;   // keeps the mapped bytes alive
  bool directory = false;
  std::optional<std::uint64_t> random_seed{};  // no weights: made of this seed (random_weights.hpp)

  /// FormatError with the first problem and the number of the others.
  void check() const;
};

/// Makes the plan for a Hugging Face directory or a GGUF file. Problems of single tensors are collected; a
/// configuration that cannot be read is thrown (FormatError, ConfigError, IoError).
/// A tensor that no weight takes is a problem, apart from known harmless ones (buffers of rotary angles and of the
/// causal mask, a head equal to the embedding it is tied to), which are ignored with a reason. Where a configuration
/// calls the head tied and the files hold another one, the head is a weight of its own, as transformers 5 has it, and a
/// note says so.
template <class D, class T>
LoadPlan plan_load(const std::string& path);

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/load_plan_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/plan_load_inl.hpp"
#endif

#endif
