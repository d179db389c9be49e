// SPDX-License-Identifier: Apache-2.0
// Bodies of compress_model.hpp.
#ifndef KDLIB_CHECKPOINT_COMPRESS_MODEL_INL_HPP
#define KDLIB_CHECKPOINT_COMPRESS_MODEL_INL_HPP

#include <algorithm>

#include "kdlib/checkpoint/compress_model.hpp"
#include "kdlib/checkpoint/compress_statistics_inl.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/core/clock.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The hash of ids and document borders; empty without documents.
std::string calibration_hash(const TokenBatch& text);
/// compress_report.json in the folder `out`.
void write_compress_report(const std::string& out, const std::string& run_hash, const CompressModelSettings& settings,
                           const CompressPlan& plan, const CompressModelReport& report);

inline DenseMatrix& map_of(GatedExpert& e, ExpertMap map) {
  return map == ExpertMap::gate ? e.gate : map == ExpertMap::up ? e.up : e.down;
}

/// One call of compress_model().
template <class D, class T>
class ModelCompression {
 public:
  ModelCompression(Decoder<D, T>& base, const std::string& out, const CompressModelSettings& settings,
                   const TokenBatch& calibration, const std::function<void(const CompressProgress&)>& progress)
      : base_(base),
        out_(out),
        settings_(settings),
        text_(calibration),
        observer_(progress),
        plan_(plan_compression(base.config(), settings, base.source())),
        folder_(out, plan_, settings, content_hash(base.source()), calibration_hash(calibration)) {
    require<ConfigError>(!base.has_adapter(), "[compress] ", base.source(), " has an adapter; merge it first");
    settings_.search.rank = plan_.rank;
    if constexpr (std::is_same_v<D, Cpu>)
      if (settings_.search.gemm == plain_gemm) settings_.search.gemm = &Kernels<D, double>::gemm;
    check_output();
    make_directories(join_path(out, "work"));
    remove_stale_temporaries_below(out);
    for (const std::int64_t layer : plan_.layers)
      for (const ExpertMap map : expert_maps)
        if (plan_.makes(layer) && folder_.open_item(layer, map) == nullptr)
          progress_.total += static_cast<std::int64_t>(plan_.map_flops[static_cast<int>(map)] / 1e6) + 1;
    progress_.total = std::max<std::int64_t>(progress_.total, 1);
  }

  CompressModelReport run() {
    CompressModelReport report;
    find_facts();
    for (const std::int64_t layer : plan_.layers)
      if (plan_.makes(layer)) make_layer(layer, report);
    for (const std::int64_t layer : plan_.layers)
      for (const ExpertMap map : expert_maps) {
        const auto item = folder_.open_item(layer, map);
        if (item == nullptr) ++report.missing;
        else report.maps.push_back(CompressFolder::read_report(*item));
      }
    for (const std::int64_t layer : plan_.layers)
      if (const auto f = folder_.read_facts(layer))
        report.layers.push_back({layer, f->aligned, f->before, f->after, -1});
    report.kept = static_cast<std::int64_t>(report.maps.size()) - report.made;
    report.notes = folder_.notes();
    if (report.complete()) assemble(report);
    return report;
  }

 private:
  /// A finished model of these settings is made again from its pieces; another one is refused.
  void check_output() const {
    const std::string path = join_path(out_, "config.json");
    if (!path_exists(path)) return;
    const auto compression = Json::parse_file(path).find_set("compression_config");
    require<ConfigError>(
        compression && compression->string_or("run_hash", "") == folder_.run_hash(), "[compress] ", out_,
        " holds a model that was made of another one, or with other settings (config.json): remove it, or "
        "choose another folder");
  }

  void tell(std::string what) {
    if (!observer_) return;
    progress_.what = std::move(what);
    progress_.seconds = steady_seconds() - begin_;
    observer_(progress_);
  }

  void pass(MixtureStatistics<D, T>& sums, const char* what) {
    for (std::int64_t b = 0; b < text_.documents(); b += settings_.batch) {
      check_stop();
      base_.forward(text_.part(b, std::min(settings_.batch, text_.documents() - b)), sums);
      tell(concat(what, ": ", std::min(b + settings_.batch, text_.documents()), " of ", text_.documents(), " texts"));
    }
  }

  /// Shares f_e of the experts, with a tenth spread evenly.
  std::vector<double> shares(const std::vector<double>& uses) const {
    const double even = 1.0 / static_cast<double>(uses.size());
    double total = 0;
    for (const double u : uses) total += u;
    std::vector<double> out;
    for (const double u : uses) out.push_back(total > 0 ? (u / total + 0.1 * even) / 1.1 : even);
    return out;
  }

  void align(std::int64_t layer, LayerFacts& facts) {
    check_stop();
    tell(concat("layer ", layer, ": alignment"));
    std::vector<GatedExpert> experts = gated_experts(base_, layer, {});
    AlignReport report = align_experts(experts, facts.uses, settings_.search.gemm);
    facts.orders = std::move(report.orders);
    facts.aligned = report.aligned;
    facts.before = report.before;
    facts.after = report.after;
  }

  /// The layers that have something to make and no facts yet, also none in the folder that settings.facts names.
  std::vector<std::int64_t> layers_without_facts() {
    std::vector<std::int64_t> open;
    bool wanted = false, taken = false;
    for (const std::int64_t layer : plan_.layers) {
      bool made = true;
      for (const ExpertMap map : expert_maps) made = made && folder_.open_item(layer, map) != nullptr;
      if (!plan_.makes(layer) || made || folder_.read_facts(layer)) continue;
      wanted = true;
      if (folder_.take_facts(layer)) taken = true;
      else open.push_back(layer);
    }
    require<ConfigError>(settings_.facts.empty() || taken || !wanted, "[compress] facts: ", settings_.facts,
                         "/work holds no statistics that were made of ", base_.source(),
                         settings_.align ? " with" : " without", " alignment on this calibration text");
    return open;
  }

  /// Finds them: one pass over the text, or with aligned experts two.
  void find_facts() {
    const std::vector<std::int64_t> open = layers_without_facts();
    if (open.empty()) return;
    MixtureStatistics<D, T> sums(base_, open);
    sums.count(true, !settings_.align);
    pass(sums, settings_.align ? "calibration, first pass" : "calibration");
    std::map<std::int64_t, LayerFacts> facts;
    for (const std::int64_t layer : open) {
      facts[layer].uses = shares(sums.of(layer).uses);
      if (settings_.align) align(layer, facts[layer]);
      sums.of(layer).orders = facts[layer].orders;
    }
    if (settings_.align) {
      sums.count(false, true);
      pass(sums, "calibration, second pass");
    }
    for (const std::int64_t layer : open) {
      auto& of = sums.of(layer);
      const double total = of.total();
      for (DenseMatrix* m : {&of.input, &of.middle})
        for (double& v : m->values) v /= total;
      facts[layer].input = std::move(of.input);
      facts[layer].middle = std::move(of.middle);
      folder_.write_facts(layer, facts[layer]);
    }
  }

  void make_layer(std::int64_t layer, CompressModelReport& report) {
    std::vector<GatedExpert> experts;
    LayerFacts facts;
    for (const ExpertMap map : expert_maps) {
      if (folder_.open_item(layer, map) != nullptr) continue;
      if (experts.empty()) {
        facts = *folder_.read_facts(layer);
        experts = gated_experts(base_, layer, facts.orders);
      }
      std::vector<DenseMatrix> matrices;
      for (GatedExpert& e : experts) matrices.push_back(std::move(map_of(e, map)));
      make_map(layer, map, matrices, facts);
      ++report.made;
    }
  }

  /// J over what the experts alone have, in the norm of these moments.
  double relative(const std::vector<DenseMatrix>& experts, const LayerFacts& facts, const DenseMatrix& moments,
                  const SharedCore& found) const {
    SharedCore nothing;
    nothing.core = DenseMatrix(experts[0].rows, experts[0].columns);
    nothing.experts.assign(experts.size(), empty_part(CoreForm::wrappers, experts[0].rows, experts[0].columns, 1));
    const CompressSettings& s = settings_.search;
    const double all = compression_error(experts, facts.uses, moments, nothing, s.ridge, s.gemm);
    return all > 0 ? compression_error(experts, facts.uses, moments, found, s.ridge, s.gemm) / all : 0;
  }

  void make_map(std::int64_t layer, ExpertMap map, const std::vector<DenseMatrix>& experts, const LayerFacts& facts) {
    const std::string name = concat("layer ", layer, " ", setting_text(map));
    const DenseMatrix& moments = map == ExpertMap::down ? facts.middle : facts.input;
    CompressSettings search = settings_.search;
    search.seed += static_cast<std::uint64_t>(3 * layer + static_cast<int>(map));
    search.progress = [&](const CompressStep& step) {
      tell(concat(name, ": ", step.name, ", J ", setting_text(static_cast<float>(step.objective))));
    };
    tell(name);
    MapReport report{layer, map, 0, 0, {}};
    SharedCore found;
    CompressReport steps;
    try {
      found = compress_experts(experts, facts.uses, moments, search, &steps);
    } catch (const ConfigError& error) {
      fail<ConfigError>("[compress] ", base_.source(), ", ", name, ": ", error.what());
    }
    // Least squares measure with the moments, Adam without.
    const bool als = search.init == CoreInit::als;
    report.relative = als || moments.values.empty() ? steps.relative() : relative(experts, facts, moments, found);
    report.relative_plain = als && !moments.values.empty() ? relative(experts, facts, {}, found) : steps.relative();
    report.steps = std::move(steps.steps);
    folder_.write_item(report, found);
    progress_.done += static_cast<std::int64_t>(plan_.map_flops[static_cast<int>(map)] / 1e6) + 1;
    tell(name + " is done");
  }

  void assemble(CompressModelReport& report);
  void fill_map(const SharedCoreMap<D, T>& map, std::int64_t layer, ExpertMap which);

  Decoder<D, T>& base_;
  std::string out_;
  CompressModelSettings settings_;
  const TokenBatch& text_;
  const std::function<void(const CompressProgress&)>& observer_;
  CompressPlan plan_;
  CompressFolder folder_;
  CompressProgress progress_;
  double begin_ = steady_seconds();
};

/// Gives the parameters of one map the numbers of its file.
template <class D, class T>
void ModelCompression<D, T>::fill_map(const SharedCoreMap<D, T>& map, std::int64_t layer, ExpertMap which) {
  const auto item = folder_.open_item(layer, which);
  for (Parameter<T, D>* p : map.parameters()) {
    const std::string name = p->name.substr(p->name.find(core_marker) + core_marker.size());
    const TensorInfo& t = item->at(name);
    require<FormatError>(t.shape() == p->value.shape(), "[compress] ", t.text(), " must be ", p->value.shape());
    const std::vector<T> values = read_as<T>(t);
    p->value = Tensor<T, D>(p->value.shape());
    Memory<D>::from_host(p->value.data(), values.data(), values.size() * sizeof(T));
  }
}

/// Everything but the experts is the base's, in the same memory or file.
template <class D, class T>
void ModelCompression<D, T>::assemble(CompressModelReport& report) {
  tell("the model is put together");
  DecoderConfig config = plan_.compressed;
  config.compression_json = folder_.config_members(settings_, base_.source());
  config.tied_head = base_.config().tied_head;
  if (!settings_.dtype.empty()) config.dtype = settings_.dtype;
  Decoder<D, T> model = Decoder<D, T>::without_values(config);
  for (const PackedWeight<D, T>& w : base_.packed_weights())
    if (!is_expert_tensor(w.name))  // the base outlives the model
      model.pack_weight(w.name, std::shared_ptr<const PackedMatrix<T, D>>(std::shared_ptr<void>(), w.matrix));
  for (Parameter<T, D>* p : model.parameters())
    if (const Parameter<T, D>* same = base_.find_parameter(p->name); same != nullptr) p->value = same->value;
  for (const std::int64_t layer : plan_.layers) {
    const SharedCoreExperts<D, T>& cores = *mixture_of(model, layer).cores();
    fill_map(cores.gate, layer, ExpertMap::gate);
    fill_map(cores.up, layer, ExpertMap::up);
    fill_map(cores.down, layer, ExpertMap::down);
  }
  if (text_.documents() > 0) {
    OutputErrors<D, T> errors(base_, model, plan_.layers);
    base_.forward(text_.part(0, std::min(settings_.batch, text_.documents())), errors);
    for (LayerReport& l : report.layers) l.output_error = errors.of(l.layer);
  }
  write_compress_report(out_, folder_.run_hash(), settings_, plan_, report);
  save_model(model, out_, base_.source(), {.dtype = config.dtype});
}

}  // namespace detail

template <class D, class T>
CompressModelReport compress_model(Decoder<D, T>& base, const std::string& out, const CompressModelSettings& settings,
                                   const TokenBatch& calibration,
                                   const std::function<void(const CompressProgress&)>& progress) {
  return detail::ModelCompression<D, T>(base, out, settings, calibration, progress).run();
}

KDLIB_NAMESPACE_END

#endif
