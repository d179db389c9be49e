// SPDX-License-Identifier: Apache-2.0
// A mixture of experts made small: statistics of its experts' inputs, a shared core and factors for each map of each
// layer (model/compress_experts.hpp), and the model put together. Finished pieces stay on disk.
#ifndef KDLIB_CHECKPOINT_COMPRESS_MODEL_HPP
#define KDLIB_CHECKPOINT_COMPRESS_MODEL_HPP

#include <functional>

#include "kdlib/checkpoint/compress_work.hpp"
#include "kdlib/checkpoint/save_model.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where compress_model() stands. `done` and `total` count arithmetic (about 1e6 operations each), so that they say
/// how much time is left.
struct CompressProgress {
  std::string what;  // "layer 3 gate: left, J 0.0812"
  std::int64_t done = 0, total = 0;
  double seconds = 0;
};

/// What a layer lost.
struct LayerReport {
  std::int64_t layer = 0, aligned = 0;  // experts that were moved to look like the others
  double before = 0, after = 0;         // sum over experts and maps of |W_e - mean|^2, before and after that
  double output_error = -1;             // |y - y'|^2 / |y|^2 of the experts' sum on calibration text; -1: there is none
};

/// What compress_model() did and found.
struct CompressModelReport {
  std::vector<MapReport> maps;                   // of all pieces that are there, by layer
  std::vector<LayerReport> layers;               // where the facts are there
  std::int64_t made = 0, kept = 0, missing = 0;  // maps: of this call, from before, of other calls' layers
  std::vector<std::string> notes;                // pieces that were damaged
  bool complete() const { return missing == 0; }
};

/// Compresses the experts of `base`, which may stay in its file, into `out`: out/work holds the pieces, out the model
/// with the tokenizer of base.source(), and compress_report.json, once no piece is missing. Pieces of the same settings
/// are kept, whoever made them; a run that was killed and one that was not give the same bytes. `calibration`: text
/// whose tokens weight the experts and give the second moments of their inputs; without documents every expert weighs
/// the same. Products are those of a backend on the host (settings.search.gemm where it has been set), experts are
/// searched on all threads. check_stop() is called between experts.
/// ConfigError, FormatError and IoError name model, layer and map: as plan_compression and compress_experts, and where
/// `out` holds another model.
template <class D, class T>
CompressModelReport compress_model(Decoder<D, T>& base, const std::string& out, const CompressModelSettings& settings,
                                   const TokenBatch& calibration = {},
                                   const std::function<void(const CompressProgress&)>& progress = {});

KDLIB_NAMESPACE_END

#include "kdlib/checkpoint/compress_model_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/compress_report_inl.hpp"
#endif

#endif
