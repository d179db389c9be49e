// SPDX-License-Identifier: Apache-2.0
// The plan for compressing a mixture of experts, and the files of the finished pieces, from which a run that was killed
// goes on. checkpoint/compress_model.hpp does the work.
#ifndef KDLIB_CHECKPOINT_COMPRESS_WORK_HPP
#define KDLIB_CHECKPOINT_COMPRESS_WORK_HPP

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/compress_experts.hpp"
#include "kdlib/model/decoder_config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One of the three maps of an expert.
enum class ExpertMap : std::uint8_t { gate, up, down };
constexpr std::array<const char*, 3> enum_names(ExpertMap) { return {"gate", "up", "down"}; }
inline constexpr ExpertMap expert_maps[] = {ExpertMap::gate, ExpertMap::up, ExpertMap::down};

/// How a mixture of experts is compressed.
struct CompressModelSettings {
  CompressSettings search{};  // form, rank and search of each map; its `progress` is not used
  double share = 0;           // > 0: share of the experts' parameters to keep; sets the rank (double for a residual)
  bool align = true;          // permute the inner units of the experts first so that experts look alike
  std::int64_t first_layer = 0, last_layer = -1;  // layers of this call, both included; -1: the last layer
  std::int64_t batch = 8;                         // documents of the calibration text in one forward pass
  std::string dtype{};                            // dtype of the weights that are written; empty: that of the model
  bool plain_model_type = false;                  // true: config.json keeps the model_type of the plain mixture
  std::string facts{};  // folder of another compression of the same model, text and alignment: its facts are taken
};

/// What a compression will make.
struct CompressPlan {
  DecoderConfig plain, compressed;
  std::vector<std::int64_t> layers;                // the layers with experts
  std::int64_t first_layer = 0, last_layer = 0;    // layers whose maps this call makes
  std::int64_t rank = 0;                           // r of the form wrappers, q of the form residual
  std::int64_t plain_values = 0, kept_values = 0;  // numbers in all experts, before and after
  double map_flops[3] = {};                        // operations that the search of one map takes, by ExpertMap

  std::int64_t out(ExpertMap map) const { return map == ExpertMap::down ? plain.hidden_size : plain.moe.intermediate; }
  std::int64_t in(ExpertMap map) const { return map == ExpertMap::down ? plain.moe.intermediate : plain.hidden_size; }
  bool makes(std::int64_t layer) const { return layer >= first_layer && layer <= last_layer; }
};

/// Makes the plan. ConfigError names `model` and the reason: the model has no experts, is of a family that cannot be
/// compressed, or is compressed already; the rank is larger than the matrices; the share leaves no rank; layers do not
/// exist; or settings are out of their ranges.
CompressPlan plan_compression(const DecoderConfig& config, const CompressModelSettings& settings,
                              const std::string& model);

/// Estimates the seconds that the search of all maps of this call takes on this machine, by timing a small search of
/// the same kind. settings.search.gemm must be the product that the real search will use. The real time is seldom less
/// than half or more than twice the estimate.
double search_seconds(const CompressPlan& plan, const CompressModelSettings& settings);

/// What is measured of a layer before its maps are compressed.
struct LayerFacts {
  std::vector<double> uses;         // [E] f_e, the share of expert e; the sum is 1
  DenseMatrix input, middle;        // second moments of the inputs of gate and up, and of down; empty: not measured
  std::vector<ExpertOrder> orders;  // order of the inner units of each expert; empty: not aligned
  std::int64_t aligned = 0;         // experts whose order was changed
  double before = 0, after = 0;     // as in AlignReport
};

/// How well one map of a layer is kept.
struct MapReport {
  std::int64_t layer = 0;
  ExpertMap map = ExpertMap::gate;
  double relative = 0, relative_plain = 0;  // J / sum_e f_e |W_e S|^2, with S of the moments and with S = 1
  std::vector<CompressStep> steps;
};

/// The files of finished pieces in OUT/work. Each file holds a hash of the settings that the piece was made with and a
/// checksum of its contents, which is compared when the file is first opened. A piece of other settings and a damaged
/// piece count as missing; notes() names the damaged ones.
class CompressFolder {
 public:
  /// `model_hash` and `calibration_hash` are hashes of the model and of the calibration text (empty: no text), on which
  /// the pieces depend.
  CompressFolder(std::string out, const CompressPlan& plan, const CompressModelSettings& settings,
                 const std::string& model_hash, const std::string& calibration_hash);

  const std::string& run_hash() const { return run_hash_; }
  std::string facts_path(std::int64_t layer) const;
  std::string item_path(std::int64_t layer, ExpertMap map) const;

  std::optional<LayerFacts> read_facts(std::int64_t layer) const;
  /// Copies the facts of `layer` from the folder of another compression (settings.facts). Returns false where that
  /// folder has none of the same model, calibration text and alignment.
  bool take_facts(std::int64_t layer) const;
  void write_facts(std::int64_t layer, const LayerFacts& facts) const;
  /// Returns the file of a finished map, or nullptr if the map is missing. Its tensors are F32: the core, and the
  /// factors with the expert as first index.
  std::shared_ptr<const SafetensorsFile> open_item(std::int64_t layer, ExpertMap map) const;
  void write_item(const MapReport& report, const SharedCore& map) const;
  static MapReport read_report(const SafetensorsFile& item);
  const std::vector<std::string>& notes() const { return notes_; }
  /// Returns the members of compression_config in config.json besides form, rank and version, as JSON.
  std::string config_members(const CompressModelSettings& settings, const std::string& model_name) const;

 private:
  std::shared_ptr<const SafetensorsFile> open_piece(const std::string& path, const std::string& hash) const;

  std::optional<LayerFacts> read_facts_at(const std::string& path) const;

  std::string out_, facts_from_, facts_hash_, run_hash_, calibration_hash_;
  std::int64_t experts_ = 0, hidden_ = 0, inner_ = 0, rank_ = 0;
  CoreForm form_{};
  mutable std::set<std::string> sound_;  // paths of files whose checksum was right
  mutable std::vector<std::string> notes_;
};

namespace detail {
/// Returns the names of the factors, "input_wrapper.U" and so on, in the order of part_matrices(). Names that belong to
/// the other form are empty.
std::array<const char*, 6> factor_names(CoreForm form);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/compress_work_inl.hpp"
#endif

#endif
