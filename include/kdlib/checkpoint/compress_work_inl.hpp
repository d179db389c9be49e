// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_work.hpp.
#ifndef KDLIB_CHECKPOINT_COMPRESS_WORK_INL_HPP
#define KDLIB_CHECKPOINT_COMPRESS_WORK_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <list>
#include <map>

#include "kdlib/checkpoint/compress_work.hpp"
#include "kdlib/core/clock.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::array<const char*, 6> factor_names(CoreForm form) {
  if (form == CoreForm::residual) return {"", "", "", "", "residual.A", "residual.B"};
  return {"input_wrapper.U", "input_wrapper.V", "output_wrapper.U", "output_wrapper.V", "", ""};
}

/// About what compress_experts takes: half-steps with products of n x n and narrow ones, the core's conjugate gradients
/// (three steps are usual), or Adam's products; whole decompositions where they are made.
KDLIB_FUNC double search_flops(std::int64_t experts, std::int64_t out, std::int64_t in, const CompressSettings& s) {
  const double e = static_cast<double>(experts), size = static_cast<double>(out) * static_cast<double>(in),
               narrow = static_cast<double>(std::min(out, in)), rank = static_cast<double>(s.rank);
  const double adam = e * static_cast<double>(s.adam_steps) * size * 24 * rank;
  if (s.init == CoreInit::adam) return adam;
  const bool wrappers = s.form == CoreForm::wrappers;
  const double whole = (wrappers ? 4 : 1) * size * narrow * 60,
               leading = wrappers ? size * (2 * narrow + 6 * rank) + narrow * narrow * (80 * rank + 4 * narrow)
                                  : size * (1.2 * narrow + 6 * rank) + 40 * narrow * narrow * rank;
  const double steps = static_cast<double>(std::min<std::int64_t>(s.core_steps, 3));
  // What does not grow with the experts: means of the factors, and solving with them at each step.
  const double fixed = wrappers ? size * static_cast<double>(out + in) * (4 + 4 * steps) : 0;
  const double core = e * size * rank * (wrappers ? 20 + 9 * steps : 4) + fixed;
  const double rounds = static_cast<double>(s.rounds);
  return adam + (rounds + 1) * e * (decomposes_wholly(s, out, in) ? whole : leading) + rounds * core;
}

KDLIB_FUNC DenseMatrix noise_matrix(std::int64_t rows, std::int64_t columns, std::uint32_t row) {
  DenseMatrix m(rows, columns);
  const Rng rng(1, RngPurpose::initialise, 4, row);
  for (std::size_t i = 0; i < m.values.size(); ++i) m.values[i] = rng.uniform(static_cast<std::uint32_t>(i)) - 0.5;
  return m;
}

}  // namespace detail

KDLIB_FUNC CompressPlan plan_compression(const DecoderConfig& config, const CompressModelSettings& s,
                                         const std::string& model) {
  require<ConfigError>(config.mixtures() > 0, "[compress] ", model, " (", family_name(config.family),
                       ") has no experts; a mixture of model_type qwen3_moe or qwen2_moe is needed");
  require<ConfigError>(config.family == Family::qwen3_moe || config.family == Family::qwen2_moe, "[compress] ", model,
                       " is of model_type ", family_name(config.family),
                       ", whose experts have biases and another activation; qwen3_moe and qwen2_moe can be compressed");
  require<ConfigError>(!config.moe.shares_cores(), "[compress] ", model, " is compressed already, at rank ",
                       config.moe.core_rank, "; convert --materialise makes plain experts of it");
  CompressPlan plan;
  plan.plain = plan.compressed = config;
  for (std::int64_t i = 0; i < config.layers; ++i)
    if (config.is_sparse(i)) plan.layers.push_back(i);
  const std::int64_t inner = config.moe.intermediate, hidden = config.hidden_size, experts = config.moe.experts;
  plan.rank = s.search.rank;
  if (s.share > 0) {
    plan.rank = rank_for_share(s.share, experts, inner, hidden);
    if (s.search.form == CoreForm::residual) plan.rank = std::min(2 * plan.rank, std::min(inner, hidden));
  }
  CompressSettings search = s.search;
  search.rank = plan.rank;
  search.check(inner, hidden);
  require<ConfigError>(!s.plain_model_type || s.search.form == CoreForm::wrappers,
                       "[compress] the files that keep the plain model_type know wrappers only, not form residual");
  plan.first_layer = s.first_layer;
  plan.last_layer = s.last_layer < 0 ? config.layers - 1 : s.last_layer;
  require<ConfigError>(plan.first_layer >= 0 && plan.first_layer <= plan.last_layer && plan.last_layer < config.layers,
                       "[compress] layers ", plan.first_layer, " to ", plan.last_layer, " of ", config.layers,
                       "; they count from 0");
  require<ConfigError>(s.batch >= 1, "[compress] batch is ", s.batch, "; it must be 1 or more");
  plan.compressed.moe.core_form = s.search.form;
  plan.compressed.moe.core_rank = plan.rank;
  plan.compressed.compression_by_key = s.plain_model_type;
  const std::int64_t maps = 3 * inner * hidden, count = static_cast<std::int64_t>(plan.layers.size());
  plan.plain_values = count * experts * maps;
  plan.kept_values = count * (maps + experts * plan.compressed.moe.factor_values(hidden));
  for (const ExpertMap map : expert_maps)
    plan.map_flops[static_cast<int>(map)] = detail::search_flops(experts, plan.out(map), plan.in(map), search);
  return plan;
}

KDLIB_FUNC double search_seconds(const CompressPlan& plan, const CompressModelSettings& s) {
  const std::int64_t inner = plan.plain.moe.intermediate, hidden = plan.plain.hidden_size;
  CompressSettings search = s.search;
  search.rank = plan.rank;
  const bool whole = detail::decomposes_wholly(search, inner, hidden);
  // Whole decompositions are slow, and products of small matrices are not what those of large ones are.
  const double largest = whole ? 48 : 1024;
  const double shrink = std::max(1.0, static_cast<double>(std::max(inner, hidden)) / largest);
  const auto small = [shrink](std::int64_t n) {
    return std::max<std::int64_t>(2, static_cast<std::int64_t>(static_cast<double>(n) / shrink));
  };
  const std::int64_t out = small(inner), in = small(hidden);
  search.rank = std::clamp<std::int64_t>(small(plan.rank), 1, std::min(out, in));
  search.rounds = std::min<std::int64_t>(search.rounds, 2);
  search.tolerance = 0;
  search.core_steps = std::min<std::int64_t>(search.core_steps, 3);
  search.adam_steps = std::min<std::int64_t>(search.adam_steps, 10);
  search.whole_below = whole ? std::min(out, in) : 0;
  search.progress = {};
  std::vector<DenseMatrix> experts;
  for (int e = 0; e < 2 * thread_count(); ++e)
    experts.push_back(detail::noise_matrix(out, in, static_cast<std::uint32_t>(e)));
  const double begin = steady_seconds();
  compress_experts(experts, std::vector<double>(experts.size(), 1.0), {}, search);
  const double taken = std::max(steady_seconds() - begin, 1e-6),
               rate = detail::search_flops(static_cast<std::int64_t>(experts.size()), out, in, search) / taken;
  double flops = 0;
  for (const std::int64_t layer : plan.layers)
    if (plan.makes(layer)) flops += plan.map_flops[0] + plan.map_flops[1] + plan.map_flops[2];
  return flops / rate;
}

KDLIB_FUNC CompressFolder::CompressFolder(std::string out, const CompressPlan& plan, const CompressModelSettings& s,
                                          const std::string& model_hash, const std::string& calibration_hash)
    : out_(std::move(out)),
      facts_from_(s.facts),
      calibration_hash_(calibration_hash),
      experts_(plan.plain.moe.experts),
      hidden_(plan.plain.hidden_size),
      inner_(plan.plain.moe.intermediate),
      rank_(plan.rank),
      form_(s.search.form) {
  JsonWriter facts;
  facts.begin_object()
      .member("model", model_hash)
      .member("calibration", calibration_hash)
      .member("align", s.align)
      .end_object();
  facts_hash_ = Sha256().add(facts.text()).digest();
  const CompressSettings& c = s.search;
  JsonWriter run;
  run.begin_object()
      .member("facts", facts_hash_)
      .member("form", setting_text(c.form))
      .member("init", setting_text(c.init))
      .member("rank", rank_)
      .member("rounds", c.rounds)
      .member("tolerance", c.tolerance)
      .member("core_steps", c.core_steps)
      .member("ridge", c.ridge)
      .member("soft", c.soft)
      .member("whole_below", c.whole_below)
      .member("adam_steps", c.adam_steps)
      .member("adam_rate", c.adam_rate)
      .member("seed", c.seed)
      .end_object();
  run_hash_ = Sha256().add(run.text()).digest();
}

namespace detail {

/// Below the folder of a compression.
KDLIB_FUNC std::string facts_name(std::int64_t layer) {
  char name[48];
  std::snprintf(name, sizeof name, "work/%03lld_layer.safetensors", static_cast<long long>(layer));
  return name;
}

}  // namespace detail

KDLIB_FUNC std::string CompressFolder::facts_path(std::int64_t layer) const {
  return join_path(out_, detail::facts_name(layer));
}

KDLIB_FUNC std::string CompressFolder::item_path(std::int64_t layer, ExpertMap map) const {
  char name[48];
  std::snprintf(name, sizeof name, "work/%03lld_%s.safetensors", static_cast<long long>(layer),
                enum_names(map)[static_cast<std::size_t>(map)]);
  return join_path(out_, name);
}

namespace detail {

/// A file of tensors that are kept until commit(), with a checksum of names, metadata and values among the metadata.
class PieceWriter {
 public:
  PieceWriter(const std::string& path, const std::string& hash) : writer_(path), text_(concat("run_hash ", hash)) {
    writer_.metadata("run_hash", hash);
  }
  void report(const std::string& text) {
    writer_.metadata("report", text);
    text_ += concat("\nreport ", text);
  }
  template <class To, class From>
  void add(const std::string& name, const Shape& shape, const std::vector<From>& values) {
    std::vector<std::byte>& bytes = kept_.emplace_back(values.size() * sizeof(To));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto v = static_cast<To>(values[i]);
      std::memcpy(bytes.data() + i * sizeof(To), &v, sizeof(To));
    }
    sums_[name] = checksum_text(bytes);
    writer_.add(name, dtype_of<To>(), shape, std::span<const std::byte>(bytes));
  }
  void commit() {
    for (const auto& [name, sum] : sums_) text_ += concat("\n", name, " ", sum);
    writer_.metadata("checksum", checksum_text(std::string_view(text_)));
    writer_.commit();
  }

 private:
  SafetensorsWriter writer_;
  std::string text_;
  std::map<std::string, std::string> sums_;
  std::list<std::vector<std::byte>> kept_;
};

/// What PieceWriter wrote as "checksum" for these contents.
KDLIB_FUNC std::string piece_checksum(const SafetensorsFile& file) {
  std::string text = concat("run_hash ", file.metadata("run_hash").value_or(""));
  if (const auto report = file.metadata("report")) text += concat("\nreport ", *report);
  std::map<std::string, std::string> sums;
  for (const TensorInfo& t : file.tensors()) sums[std::string(t.name)] = checksum_text(t.data);
  for (const auto& [name, sum] : sums) text += concat("\n", name, " ", sum);
  return checksum_text(std::string_view(text));
}

KDLIB_FUNC void add_matrix(PieceWriter& writer, const char* name, const DenseMatrix& m) {
  if (!m.values.empty()) writer.add<double>(name, Shape{m.rows, m.columns}, m.values);
}

KDLIB_FUNC DenseMatrix read_matrix(const SafetensorsFile& file, const char* name, std::int64_t size) {
  DenseMatrix m;
  const TensorInfo* t = file.find(name);
  if (t == nullptr) return m;
  m = DenseMatrix(size, size);
  read_as<double>(*t, std::span<double>(m.values));
  return m;
}

}  // namespace detail

/// The file where it is there, whole and of that hash.
KDLIB_FUNC std::shared_ptr<const SafetensorsFile> CompressFolder::open_piece(const std::string& path,
                                                                             const std::string& hash) const {
  if (!path_exists(path)) return nullptr;
  try {
    auto file = std::make_shared<const SafetensorsFile>(path);
    if (file->metadata("run_hash") != std::optional<std::string_view>(hash)) return nullptr;
    if (sound_.count(path) != 0) return file;
    const std::string has(file->metadata("checksum").value_or("none")), now = detail::piece_checksum(*file);
    require<FormatError>(has == now, "[compress] ", path, ": checksum is ", now, ", the file says ", has);
    sound_.insert(path);
    return file;
  } catch (const FormatError& error) {
    const std::string note = concat(error.what(), ": damaged, it is made again");
    if (std::find(notes_.begin(), notes_.end(), note) == notes_.end()) notes_.push_back(note);
    return nullptr;
  }
}

KDLIB_FUNC void CompressFolder::write_facts(std::int64_t layer, const LayerFacts& f) const {
  detail::PieceWriter writer(facts_path(layer), facts_hash_);
  std::vector<std::int64_t> places;
  std::vector<std::uint8_t> flips;
  for (const ExpertOrder& o : f.orders) {
    places.insert(places.end(), o.places.begin(), o.places.end());
    flips.insert(flips.end(), o.flips.begin(), o.flips.end());
  }
  const std::vector<double> numbers{static_cast<double>(f.aligned), f.before, f.after};
  writer.add<double>("uses", Shape{experts_}, f.uses);
  writer.add<double>("alignment", Shape{3}, numbers);
  detail::add_matrix(writer, "input", f.input);
  detail::add_matrix(writer, "middle", f.middle);
  if (!places.empty()) {
    writer.add<std::int64_t>("places", Shape{experts_, inner_}, places);
    writer.add<std::uint8_t>("flips", Shape{experts_, inner_}, flips);
  }
  sound_.erase(facts_path(layer));
  writer.commit();
}

KDLIB_FUNC std::optional<LayerFacts> CompressFolder::read_facts(std::int64_t layer) const {
  return read_facts_at(facts_path(layer));
}

KDLIB_FUNC bool CompressFolder::take_facts(std::int64_t layer) const {
  if (facts_from_.empty()) return false;
  const std::optional<LayerFacts> facts = read_facts_at(join_path(facts_from_, detail::facts_name(layer)));
  if (facts) write_facts(layer, *facts);
  return facts.has_value();
}

KDLIB_FUNC std::optional<LayerFacts> CompressFolder::read_facts_at(const std::string& path) const {
  const auto file = open_piece(path, facts_hash_);
  if (file == nullptr) return std::nullopt;
  LayerFacts f;
  f.uses = read_as<double>(file->at("uses"));
  const std::vector<double> numbers = read_as<double>(file->at("alignment"));
  f.aligned = static_cast<std::int64_t>(numbers.at(0));
  f.before = numbers.at(1);
  f.after = numbers.at(2);
  f.input = detail::read_matrix(*file, "input", hidden_);
  f.middle = detail::read_matrix(*file, "middle", inner_);
  if (file->find("places") == nullptr) return f;
  const auto places = read_as<std::int64_t>(file->at("places"));
  const auto flips = read_as<std::uint8_t>(file->at("flips"));
  for (std::int64_t e = 0; e < experts_; ++e) {
    const auto at = static_cast<std::ptrdiff_t>(e * inner_), end = static_cast<std::ptrdiff_t>((e + 1) * inner_);
    f.orders.push_back({{places.begin() + at, places.begin() + end}, {flips.begin() + at, flips.begin() + end}});
  }
  return f;
}

KDLIB_FUNC std::shared_ptr<const SafetensorsFile> CompressFolder::open_item(std::int64_t layer, ExpertMap map) const {
  return open_piece(item_path(layer, map), run_hash_);
}

KDLIB_FUNC void CompressFolder::write_item(const MapReport& report, const SharedCore& map) const {
  JsonWriter text;
  text.begin_object()
      .member("layer", report.layer)
      .member("map", setting_text(report.map))
      .member("relative", report.relative)
      .member("relative_plain", report.relative_plain);
  text.key("steps").begin_array();
  for (const CompressStep& step : report.steps)
    text.begin_object().member("name", step.name).member("objective", step.objective).end_object();
  text.end_array().end_object();
  const std::string path = item_path(report.layer, report.map);
  detail::PieceWriter writer(path, run_hash_);
  writer.report(text.text());
  writer.add<float>("core", Shape{map.core.rows, map.core.columns}, map.core.values);
  std::array<std::vector<double>, 6> factors;
  for (const ExpertPart& part : map.experts) {
    const auto matrices = detail::part_matrices(part);
    for (std::size_t i = 0; i < factors.size(); ++i)
      factors[i].insert(factors[i].end(), matrices[i]->values.begin(), matrices[i]->values.end());
  }
  const auto names = detail::factor_names(form_);
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (factors[i].empty()) continue;
    const auto width = static_cast<std::int64_t>(factors[i].size()) / (experts_ * rank_);
    writer.add<float>(names[i], Shape{experts_, width, rank_}, factors[i]);
  }
  sound_.erase(path);
  writer.commit();
}

KDLIB_FUNC MapReport CompressFolder::read_report(const SafetensorsFile& item) {
  const auto text = item.metadata("report");
  require<FormatError>(text.has_value(), "[compress] ", item.path(), ": the metadata hold no report");
  const Json json = Json::parse(std::string(*text), item.path());
  MapReport r;
  r.layer = json.at("layer").as_int();
  const auto map = enum_value<ExpertMap>(json.at("map").as_string());
  require<FormatError>(map.has_value(), "[compress] ", item.path(), ": map is \"", json.at("map").as_string(), "\"");
  r.map = *map;
  r.relative = json.at("relative").as_double();
  r.relative_plain = json.at("relative_plain").as_double();
  for (const Json& step : json.at("steps"))
    r.steps.push_back({std::string(step.at("name").as_string()), step.at("objective").as_double()});
  return r;
}

KDLIB_FUNC std::string CompressFolder::config_members(const CompressModelSettings& s,
                                                      const std::string& model_name) const {
  JsonWriter out;
  out.begin_object()
      .member("model_name", model_name)
      .member("num_steps", s.search.init == CoreInit::adam ? s.search.adam_steps : s.search.rounds)
      .member("lr", s.search.adam_rate)
      .member("aligned", s.align)
      .member("init", s.search.init == CoreInit::adam ? "seed" : "als")
      .member("calibration_sha256", calibration_hash_)
      .member("run_hash", run_hash_)
      .end_object();
  return out.text();
}

KDLIB_NAMESPACE_END

#endif
