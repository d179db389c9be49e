// SPDX-License-Identifier: Apache-2.0
// The plan of loading a model: the parameter, the rows and the decoding for each tensor of its files. Hugging Face
// directories, packed directories and GGUF files have the same kind of plan, which is made and checked before memory is
// allocated.
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
  elements,    // rows of an element type or of blocks of GGUF
  transposed,  // experts [E, in, out] for a parameter [E, out, in]
  mxfp4,       // codes of experts; the scales are the next tensor of the parameter's list
  mxfp4_scales,
  codes  // a part of a packed matrix (packed_format.hpp)
};

/// A tensor of a file and how it is loaded.
struct PlannedTensor {
  std::string name, file;             // name of the tensor; path of the file
  std::string type, shape;            // as the file writes them
  GgufType elements = GgufType::f32;  // for TensorDecoding::elements and transposed
  TensorDecoding decoding = TensorDecoding::elements;
  TensorRows rows;
  std::span<const std::byte> data;

  /// Returns the rows of the parameter [parameter_rows, ..] as text, such as "all rows" or "interleaved by heads of
  /// 64", or the decoding if it is not `elements`, such as "MXFP4 codes".
  std::string text(std::int64_t parameter_rows) const;
};

/// A weight of the model and the tensors that give it its values, in the order of its rows.
struct PlannedWeight {
  std::string name;
  Shape shape;
  bool packable = false;
  std::vector<PlannedTensor> tensors;
  bool zero = false;  // true: no tensor, because the file holds this bias only in other layers

  std::int64_t row_count() const { return shape.count() / shape[shape.rank() - 1]; }
};

/// A tensor of a file that no weight takes, and one sentence that says why this is harmless.
struct IgnoredTensor {
  std::string name, reason;
};

/// Why a file and a configuration do not fit. Problems are sorted in this order, so that causes come before their
/// consequences.
enum class LoadProblemKind : std::uint8_t { missing, unfit, surplus };
struct LoadProblem {
  LoadProblemKind kind = LoadProblemKind::missing;
  std::string text;  // one sentence with the file, the tensor, what is expected and what was found
};

/// The plan of loading a model: the weights with the tensors that they are made of, the tensors that are left out, and
/// the problems.
struct LoadPlan {
  std::string path;
  DecoderConfig config;  // tied_head as the files decide
  std::vector<PlannedWeight> weights;
  std::vector<IgnoredTensor> ignored;  // sorted by name
  std::vector<LoadProblem> problems;
  std::vector<std::string> notes;      // facts that are unusual but harmless
  std::optional<PackedFormat> packed;  // set for a packed directory
  std::shared_ptr<const void> files;   // keeps the mapped bytes alive
  bool directory = false;
  std::optional<std::uint64_t> random_seed{};  // set: weights are made from it (random_weights.hpp)

  /// FormatError: there are problems; the message holds the first one and the number of the others.
  void check() const;
};

/// Makes the plan for a Hugging Face directory or a GGUF file. Problems of single tensors are collected in the plan.
/// FormatError, ConfigError or IoError: the configuration cannot be read.
/// A tensor that no weight takes is a problem, except for tensors that are known to be harmless: buffers of rotary
/// angles and of the causal mask, and a head that is equal to the embedding that the head is tied to. Harmless tensors
/// are ignored with a reason. If the configuration says that the head is tied but the files hold another head, the head
/// becomes a weight of its own, as in transformers 5, and a note says so.
template <class D, class T>
LoadPlan plan_load(const std::string& path);

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/load_plan_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/plan_load_inl.hpp"
#endif

#endif
