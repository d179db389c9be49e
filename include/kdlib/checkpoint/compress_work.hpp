// SPDX-License-Identifier: Apache-2.0
// The plan of compressing a mixture of experts, and the files of the pieces that are finished: a killed run goes on
// where it was. checkpoint/compress_model.hpp does the work.
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

/// How a mixture is compressed.
struct CompressModelSettings {
  CompressSettings search{};  // form, rank and search of each map; `progress` is replaced
  double share = 0;           // > 0: of the experts' parameters that are kept; says the rank (of a residual twice that)
  bool align = true;          // experts are permuted first so that they look alike
  std::int64_t first_layer = 0, last_layer = -1;  // whose maps this call makes, both included; -1: up to the last one
  std::int64_t batch = 8;                         // documents of a pass over the calibration text
  std::string dtype{};                            // of the weights that are written; empty: the model's
  bool plain_model_type = false;                  // config.json keeps the model_type of the plain mixture
  std::string facts{};  // folder of another compression of the same model, text and alignment, whose facts are taken
};

/// What will be made.
struct CompressPlan {
  DecoderConfig plain, compressed;
  std::vector<std::int64_t> layers;                // with experts
  std::int64_t first_layer = 0, last_layer = 0;    // whose maps this call makes
  std::int64_t rank = 0;                           // r of wrappers, q of a residual
  std::int64_t plain_values = 0, kept_values = 0;  // of all experts
  double map_flops[3] = {};                        // about what the search of one map of one layer takes

  std::int64_t out(ExpertMap map) const { return map == ExpertMap::down ? plain.hidden_size : plain.moe.intermediate; }
  std::int64_t in(ExpertMap map) const { return map == ExpertMap::down ? plain.moe.intermediate : plain.hidden_size; }
  bool makes(std::int64_t layer) const { return layer >= first_layer && layer <= last_layer; }
};

/// ConfigError naming `model` and the reason: no mixture of a family that can be compressed, compressed already, a rank
/// above the matrices, a share that leaves no rank, layers that are not there, settings outside their ranges.
CompressPlan plan_compression(const DecoderConfig& config, const CompressModelSettings& settings,
                              const std::string& model);

/// Seconds that all maps take on this machine, from a small search of the same kind (settings.search.gemm is what will
/// multiply). Seldom less than half of it or more than double.
double search_seconds(const CompressPlan& plan, const CompressModelSettings& settings);

/// What is known of a layer before its maps are compressed.
struct LayerFacts {
  std::vector<double> uses;         // [E] f_e, sum 1
  DenseMatrix input, middle;        // second moments of what gate and up, and what down reads; empty: not measured
  std::vector<ExpertOrder> orders;  // of aligned experts; empty: they stay
  std::int64_t aligned = 0;         // experts that were moved
  double before = 0, after = 0;     // AlignReport
};

/// How well one map of a layer is kept.
struct MapReport {
  std::int64_t layer = 0;
  ExpertMap map = ExpertMap::gate;
  double relative = 0, relative_plain = 0;  // J over sum_e f_e |W_e S|^2, with the moments' S and with S = 1
  std::vector<CompressStep> steps;
};

/// The finished pieces below OUT/work. Each file holds the hash of the settings that it was made with and a checksum of
/// its contents, which is compared once; a piece of other settings, or one that is damaged, counts as missing, and
/// notes() names the damaged ones.
class CompressFolder {
 public:
  /// `model_hash`, `calibration_hash` (empty: none): contents that the pieces depend on.
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
  /// The tensors of a finished map: core and the factors, experts first, F32; null where it is missing.
  std::shared_ptr<const SafetensorsFile> open_item(std::int64_t layer, ExpertMap map) const;
  void write_item(const MapReport& report, const SharedCore& map) const;
  static MapReport read_report(const SafetensorsFile& item);
  const std::vector<std::string>& notes() const { return notes_; }
  /// Members of compression_config beside form, rank and version, as JSON.
  std::string config_members(const CompressModelSettings& settings, const std::string& model_name) const;

 private:
  std::shared_ptr<const SafetensorsFile> open_piece(const std::string& path, const std::string& hash) const;

  std::optional<LayerFacts> read_facts_at(const std::string& path) const;

  std::string out_, facts_from_, facts_hash_, run_hash_, calibration_hash_;
  std::int64_t experts_ = 0, hidden_ = 0, inner_ = 0, rank_ = 0;
  CoreForm form_{};
  mutable std::set<std::string> sound_;  // files whose checksum was compared
  mutable std::vector<std::string> notes_;
};

namespace detail {
/// "input_wrapper.U", ... in the order of part_matrices(), those of the other form empty.
std::array<const char*, 6> factor_names(CoreForm form);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/compress_work_inl.hpp"
#endif

#endif
