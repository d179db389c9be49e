// SPDX-License-Identifier: Apache-2.0
// Body of trainer.hpp: what one call of Trainer::run sets up. The loop itself is training_run.hpp.
#ifndef KDLIB_TRAIN_TRAINER_INL_HPP
#define KDLIB_TRAIN_TRAINER_INL_HPP

#include <string_view>

#include "kdlib/train/described_parts_inl.hpp"
#include "kdlib/train/trainer.hpp"
#include "kdlib/train/training_run.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Marks the selected parameters as trainable for the life of this object and puts the marks back at its end.
template <class T, class D>
class TrainableScope {
 public:
  template <class Selection>
  TrainableScope(std::vector<Parameter<T, D>*> all, const Selection& selection) : all_(std::move(all)) {
    for (Parameter<T, D>* p : all_) {
      before_.push_back(p->trainable);
      double rate = 0;
      if constexpr (std::is_same_v<Selection, MarkedTrainable>) rate = p->trainable ? 1 : 0;
      else rate = selection(p->name);
      p->trainable = rate > 0;
      if (rate <= 0) continue;
      trained_.push_back(p);
      rates_.push_back(rate);
    }
  }
  TrainableScope(const TrainableScope&) = delete;
  TrainableScope& operator=(const TrainableScope&) = delete;
  ~TrainableScope() {
    for (std::size_t i = 0; i < all_.size(); ++i) all_[i]->trainable = before_[i];
  }

  const std::vector<Parameter<T, D>*>& all() const { return all_; }
  const std::vector<Parameter<T, D>*>& trained() const { return trained_; }
  const std::vector<double>& rates() const { return rates_; }

 private:
  std::vector<Parameter<T, D>*> all_, trained_;
  std::vector<bool> before_;
  std::vector<double> rates_;
};

/// A sink or store that several ranks may hold at once: one of ranks, or one without files.
template <class X>
inline constexpr bool is_of_ranks = requires {
  requires X::is_of_ranks;
}
|| !requires(const X& x) { x.path(); };

/// ConfigError: the parts of a run that several ranks cannot share.
void check_shareable(const RunSettings& s, bool weighs_rows, bool of_ranks, bool skippable);
template <class Source, class Sink, class Store>
void check_shareable(const RunSettings& s) {
  check_shareable(s, WeighsRows<Source>, is_of_ranks<Sink> && is_of_ranks<Store>,
                  DataSource<Source> || SkippableSource<Source>);
}

/// Settings of ranks that change what a run computes, for its checkpoints.
void append_ranks(SettingsList& list, const RankSettings& ranks);

template <class Source>
void append_replay(SettingsList& list, const RunSettings& s, const Source& source) {
  if constexpr (requires {
                  { source.records_routing() } -> std::convertible_to<bool>;
                })
    require<ConfigError>(!s.replay_routing || source.records_routing(),
                         "[run] replay_routing is set, but the source does not record the routing of what it writes; "
                         "set OnPolicySettings::record_routing");
  if (s.replay_routing) list.emplace_back("replay_routing", "true");
}

template <class X>
void keep_part(std::vector<X>& list, std::pair<std::size_t, std::size_t> part) {
  if (list.empty()) return;  // rates that are all 1
  list = std::vector<X>(list.begin() + static_cast<std::ptrdiff_t>(part.first),
                        list.begin() + static_cast<std::ptrdiff_t>(part.second));
}

/// ConfigError: batches are to be fetched ahead of a source whose text is not `known` then.
void check_ahead(const RunSettings& s, bool known);
template <class Source>
void check_ahead(const RunSettings& s) {
  check_ahead(s, TellsGivenText<Source> && !WeighsRows<Source>);
}

/// ConfigError: a number out of its range.
void check_settings(const RunSettings& s);
/// ConfigError: a setting that is given twice.
void check_named_once(const SettingsList& list);
}  // namespace detail

/// What a resumed run must have, too.
template <class Student, class Source, class Objective, class Optimizer, class Schedule>
template <class Selection, class Scope>
SettingsList Trainer<Student, Source, Objective, Optimizer, Schedule>::described(const RunSettings& settings,
                                                                                 const Selection& selection,
                                                                                 const Scope& scope) {
  SettingsList list{{"micro_batches", std::to_string(settings.micro_batches)},
                    {"clip_norm", setting_text(settings.clip_norm)}};
  if (settings.gradient_threshold > 0)
    list.emplace_back("gradient_threshold", setting_text(settings.gradient_threshold));
  detail::append_replay(list, settings, source_);
  detail::append_ranks(list, settings.ranks);
  if constexpr (is_sixteen_bit<T>) list.emplace_back("dtype", dtype_text<T>());
  detail::append_optimizer(list, optimizer_);
  detail::append_schedule(list, schedule_);
  detail::append_selection(list, selection, scope);
  detail::append_loss(list, "loss", objective_.loss());
  detail::append_described(list, source_);
  detail::append_described(list, objective_.teacher());
  for (const Span& span : settings.spans) list.emplace_back("span." + span.name, setting_text(span.weight));
  for (const auto& entry : settings.settings) list.push_back(entry);
  detail::check_named_once(list);
  return list;
}

template <class Student, class Source, class Objective, class Optimizer, class Schedule>
template <class Sink, class Store, class Selection>
RunResult Trainer<Student, Source, Objective, Optimizer, Schedule>::run(const RunSettings& settings, Sink&& sink,
                                                                        Store&& store, const Selection& selection,
                                                                        const StageContext& context) {
  static_assert(MetricSink<std::remove_reference_t<Sink>>,
                "kdlib: the second argument of run is not a MetricSink (scalar(name, step, value), flush()); use "
                "kd::JsonLines{path} or kd::NoMetrics{}");
  static_assert(CheckpointStore<std::remove_reference_t<Store>>,
                "kdlib: the third argument of run is not a CheckpointStore (save(state), latest()); use "
                "kd::Directory{path} or kd::NoCheckpoints{}");
  static_assert(std::is_same_v<Selection, detail::MarkedTrainable> || ParameterSelection<Selection>,
                "kdlib: the fourth argument of run does not select parameters (select(name) gives the rate multiplier, "
                "0 = frozen); use "
                "kd::only(\"*.mlp.*\"), kd::everything() or kd::ParameterGroups");
  detail::check_settings(settings);
  require<ConfigError>(
      settings.save != SaveRule::best || requires { store.best()->parameters; },
      "[run] save is best and the store keeps no best state; use kd::Directory{path}");
  detail::check_rates(schedule_, settings.steps);
  detail::check_ahead<SourceType>(settings);
  if constexpr (requires { source_.check_loss(SampledTextUse{}); })
    source_.check_loss(sampled_text_use(objective_.loss()));
  require<ConfigError>(!detail::WeighsRows<SourceType> || !settings.spans.empty(),
                       "[run] the source weighs rows behind the spans' denominators: name them in RunSettings::spans");
  if (settings.ranks.communicator.size() > 1)
    detail::check_shareable<SourceType, std::remove_reference_t<Sink>, std::remove_reference_t<Store>>(settings);
  const detail::TrainableScope<T, D> scope(student_.parameters(), selection);
  if constexpr (requires { selection.check_names(std::vector<std::string>{}); }) {
    std::vector<std::string> names;
    for (const auto* parameter : scope.all()) names.push_back(parameter->name);
    selection.check_names(names);
  }
  require<ConfigError>(!scope.trained().empty(),
                       "[run] no parameter is trainable; add an adapter (kd::add_lora), mark parameters, or select "
                       "some with kd::only(pattern)");
  SettingsList list = described(settings, selection, scope);
  std::vector<Parameter<T, D>*> updated = scope.trained();
  std::vector<double> rates = scope.rates();
  std::optional<detail::OptimizerShard<T, D>> shard;
  if (settings.ranks.shard_optimizer && settings.ranks.communicator.size() > 1) {
    shard.emplace(settings.ranks.communicator, updated);
    detail::keep_part(updated, shard->own());
    detail::keep_part(rates, shard->own());
  }
  auto state = optimizer_.template state<T, D>(std::move(updated), std::move(rates));
  using Types = detail::RunTypes<Student, SourceType, Objective, Schedule, decltype(state),
                                 std::remove_reference_t<Sink>, std::remove_reference_t<Store>>;
  const detail::RunParts<Types> parts{student_, source_, objective_, schedule_,
                                      state,    sink,    store,      shard ? &*shard : nullptr};
  detail::TrainingRun<Types> run(parts, settings, context, scope.trained(), std::move(list));
  return run.run();
}

KDLIB_NAMESPACE_END

#endif
