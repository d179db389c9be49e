// SPDX-License-Identifier: Apache-2.0
// Compresses a mixture of experts: measures statistics of the inputs of its experts, finds a shared core and low-rank
// factors for each map of each layer (model/compress_experts.hpp), and puts the compressed model together. Finished
// pieces stay on disk.
#ifndef KDLIB_CHECKPOINT_COMPRESS_MODEL_HPP
#define KDLIB_CHECKPOINT_COMPRESS_MODEL_HPP

#include <functional>

#include "kdlib/checkpoint/compress_work.hpp"
#include "kdlib/checkpoint/save_model.hpp"
#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// The progress of compress_model(). `done` and `total` count arithmetic in units of about 1e6 operations, so that they
/// tell how much time is left.
struct CompressProgress {
  std::string what;  // what is being done, such as "layer 3 gate: left, J 0.0812"
  std::int64_t done = 0, total = 0;
  double seconds = 0;
};

/// What the compression of one layer lost.
struct LayerReport {
  std::int64_t layer = 0, aligned = 0;  // aligned: experts whose inner order was changed to look like the others
  double before = 0, after = 0;         // sum over experts and maps of |W_e - mean|^2 before and after aligning
  double output_error = -1;             // |y - y'|^2 / |y|^2 of the experts' sum on calibration text; -1: not measured
};

/// What compress_model() did and found.
struct CompressModelReport {
  std::vector<MapReport> maps;                   // of all finished maps, by layer
  std::vector<LayerReport> layers;               // of all layers whose LayerFacts are on disk
  std::int64_t made = 0, kept = 0, missing = 0;  // numbers of maps: made by this call, kept from before, not made yet
  std::vector<std::string> notes;                // one for each piece that was damaged
  bool complete() const { return missing == 0; }
};

/// Compresses the experts of `base`, whose weights may stay in their file, into the folder `out`. The pieces (one for
/// each map of each layer) go to out/work. When no piece is missing, `out` receives the model, the tokenizer of
/// base.source() and compress_report.json. Finished pieces of the same settings are kept, whichever call made them. A
/// run that was killed and started again gives the same bytes as one that was not. `calibration` is text that decides
/// how much each expert weighs (by the squares of its routing weights) and gives the second moments of the inputs of
/// the experts. Without documents every expert has the same weight. If D is Cpu, products run on the CPU backend unless
/// settings.search.gemm is set. The search uses all threads and calls check_stop() between experts.
/// ConfigError: as plan_compression() and compress_experts(), or `base` has an adapter, or `out` holds another model.
/// FormatError and IoError: a file cannot be used. Messages name model, layer and map.
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
