// SPDX-License-Identifier: Apache-2.0
// Steps of decoding that a device has recorded: the host launches a step by one call, whatever its kernels are.
#ifndef KDLIB_ROLLOUT_DECODE_GRAPHS_INL_HPP
#define KDLIB_ROLLOUT_DECODE_GRAPHS_INL_HPP

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kdlib/rollout/decode_ahead_inl.hpp"
#include "kdlib/tensor/graph_use.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A model whose steps a graph can hold: a state that stays where it is, and names for what a step depends on.
template <class M, class Cache>
concept DecodesByGraphs = CapturesGraphs<typename M::device_type> && DecodesAhead<M, Cache> &&
    requires(M& model, Cache& cache, std::span<const std::int32_t> slots, DecodeState<typename M::device_type>& state) {
  model.continue_decoding(cache, state, slots, slots, std::int64_t{1}, std::int64_t{1});
  model.step_dependencies(cache);
  state.count_step(cache);
};

/// Rows of the graph that decodes `sequences` of at most `most`: 1, 2, 4, 8, 16, then multiples of 8.
inline std::int64_t graph_rows(std::int64_t sequences, std::int64_t most) {
  std::int64_t rows = 1;
  while (rows < sequences && rows < 16) rows *= 2;
  if (rows < sequences) rows = (sequences + 7) / 8 * 8;
  return std::min(rows, most);
}

/// The graphs of one model and one cache, one for each number of rows: a step (embedding, layers, head, draw, advance)
/// with all that changes on the device. A number of rows runs twice without a graph, which fills the table of products
/// and counts the memory of a step, and is recorded in its third step. All graphs share one memory of the size of the
/// largest; where a larger one is needed, the others are recorded again. So are all where weights, tables or
/// switches changed.
template <class M, class Cache>
class DecodeGraphs {
  using D = typename M::device_type;
  using Draw = DeviceDraw<M>;
  using Row = typename Draw::Row;
  using Graph = typename Memory<D>::Graph;
  using GraphMemory = typename Memory<D>::GraphMemory;

 public:
  DecodeGraphs(M& model, Cache& cache, const Sampler& sampler)
      : model_(model), cache_(cache), rule_(rule_of<typename Draw::Rule>(sampler)) {}

  /// As decode_ahead.
  std::vector<Row> decode(std::span<const std::int32_t> last, std::span<const std::int32_t> slots,
                          const std::vector<double>& uniform, PendingRouting<D>& routing) {
    const std::size_t count = last.size(), steps = uniform.size() / count;
    std::vector<std::int32_t> all_slots(slots.begin(), slots.end()), ids(last.begin(), last.end());
    add_padding(all_slots, static_cast<std::int64_t>(steps));
    const std::size_t rows = all_slots.size();
    ids.resize(rows, 0);
    Bucket& bucket = bucket_of(all_slots, ids, static_cast<std::int64_t>(steps), static_cast<std::int64_t>(count));
    std::vector<double> padded(steps * rows, 0.0);
    for (std::size_t t = 0; t < steps; ++t)
      std::copy_n(uniform.begin() + static_cast<std::ptrdiff_t>(t * count), count,
                  padded.begin() + static_cast<std::ptrdiff_t>(t * rows));
    const Buffer<double, D> numbers(static_cast<std::int64_t>(padded.size()));
    const Buffer<Row, D> drawn(numbers.count());
    Memory<D>::from_host(numbers.data(), padded.data(), padded.size() * sizeof(double));
    QueuedPhase<D> queued;
    for (std::size_t at = 0; at < padded.size(); at += rows) {
      Memory<D>::copy(bucket.uniform.data(), numbers.data() + at, rows * sizeof(double));
      step(bucket);
      Memory<D>::copy(drawn.data() + at, bucket.drawn.data(), rows * sizeof(Row));
      if (bucket.chosen.empty()) continue;
      std::vector<Tensor<std::int32_t, D>> chosen;
      for (const Tensor<std::int32_t, D>& layer : bucket.chosen) chosen.push_back(layer.clone());
      routing.put(std::move(chosen));
    }
    queued.end();
    const std::vector<Row> here = read_draws(drawn, routing);
    std::vector<Row> out;
    for (std::size_t at = 0; at < here.size(); at += rows)
      out.insert(out.end(), here.begin() + static_cast<std::ptrdiff_t>(at),
                 here.begin() + static_cast<std::ptrdiff_t>(at + count));
    return out;
  }

 private:
  /// A number of rows, with what its graph reads and writes.
  struct Bucket {
    DecodeState<D> state;
    Buffer<double, D> uniform;                    // [N]
    Buffer<Row, D> drawn;                         // [N]
    std::vector<Tensor<std::int32_t, D>> chosen;  // [mixtures] of [N, K], where routing is recorded
    int passes = 0;                               // that ran without a graph
    std::size_t bytes = 0;                        // of a pass's memory
    std::unique_ptr<Graph> graph{};
  };

  /// Slots with room, up to the rows of a graph. Where there are too few of them the rows are the sequences.
  void add_padding(std::vector<std::int32_t>& slots, std::int64_t steps) const {
    const std::size_t count = slots.size();
    const auto rows = static_cast<std::size_t>(graph_rows(static_cast<std::int64_t>(count), cache_.sequences()));
    for (std::int32_t s = 0; s < cache_.sequences() && slots.size() < rows; ++s) {
      const auto end = slots.begin() + static_cast<std::ptrdiff_t>(count);
      if (std::find(slots.begin(), end, s) == end && cache_.length(s) + steps <= cache_.capacity()) slots.push_back(s);
    }
    if (slots.size() < rows) slots.resize(count);
  }

  Bucket& bucket_of(std::span<const std::int32_t> slots, std::span<const std::int32_t> ids, std::int64_t steps,
                    std::int64_t sequences) {
    const auto rows = static_cast<std::int64_t>(slots.size());
    auto at = buckets_.find(rows);
    if (at == buckets_.end()) {
      at = buckets_.try_emplace(rows).first;
      at->second.state = model_.begin_decoding(cache_, slots, ids, steps);
      at->second.state.sequences.resize(static_cast<std::size_t>(sequences));  // the rows behind them are padding
      at->second.uniform = Buffer<double, D>(rows);
      at->second.drawn = Buffer<Row, D>(rows);
    } else {
      model_.continue_decoding(cache_, at->second.state, slots, ids, steps, sequences);
    }
    if (auto now = model_.step_dependencies(cache_); now != dependencies_) {
      for (auto& [n, bucket] : buckets_) bucket.graph.reset(), bucket.passes = 0, bucket.chosen.clear();
      dependencies_ = std::move(now);
    }
    return at->second;
  }

  void step(Bucket& bucket) {
    if (bucket.graph != nullptr) {
      bucket.state.count_step(cache_);
      bucket.graph->launch();
    } else if (bucket.passes == 0) {
      ++bucket.passes;
      run(bucket);
    } else if (bucket.passes == 1) {
      ++bucket.passes;
      const typename Memory<D>::GraphMemoryPlan plan;
      run(bucket);
      bucket.bytes = plan.bytes();
    } else {
      record(bucket);
      bucket.graph->launch();
    }
  }

  void record(Bucket& bucket) {
    if (memory_ == nullptr || memory_->bytes() < bucket.bytes) {
      for (auto& [n, other] : buckets_) other.graph.reset();
      memory_.reset();
      memory_ = std::make_shared<GraphMemory>(bucket.bytes);
    }
    auto graph = std::make_unique<Graph>();
    graph->capture(memory_, [&] { run(bucket); });
    bucket.graph = std::move(graph);
  }

  /// The step itself. Choices of experts go to tensors that outlive it.
  void run(Bucket& bucket) {
    PendingRouting<D> routing;
    const auto decode_one = [&] {
      decode_and_draw(model_, cache_, bucket.state, rule_, bucket.uniform.data(), bucket.drawn.data());
    };
    if constexpr (requires { model_.pending_routing(); }) {
      PendingRouting<D>* const outer = model_.pending_routing();
      if (outer == nullptr) return decode_one();
      model_.set_pending_routing(&routing);
      const RestoreRouting restore{model_, outer};
      decode_one();
      if (routing.empty()) return;
      for (std::size_t i = 0; i < routing.last().size(); ++i) {
        const Tensor<std::int32_t, D>& from = routing.last()[i];
        if (bucket.chosen.size() <= i) bucket.chosen.emplace_back(from.shape());
        Memory<D>::copy(bucket.chosen[i].data(), from.data(), static_cast<std::size_t>(from.bytes()));
      }
    } else {
      decode_one();
    }
  }
  struct RestoreRouting {
    M& model;
    PendingRouting<D>* outer;
    ~RestoreRouting() { model.set_pending_routing(outer); }
  };

  M& model_;
  Cache& cache_;
  typename Draw::Rule rule_;
  std::shared_ptr<GraphMemory> memory_;
  std::map<std::int64_t, Bucket> buckets_;  // by rows
  std::vector<std::uintptr_t> dependencies_;
};

/// Decodes steps ahead for one call of generate(): by graphs or kernel by kernel, as GraphUse says.
template <class M, class Cache>
class AheadDecoder {
  using D = typename M::device_type;
  static constexpr bool has_graphs = DecodesByGraphs<M, Cache>;
  struct None {};
  using Graphs = typename std::conditional_t<has_graphs, std::type_identity<std::optional<DecodeGraphs<M, Cache>>>,
                                             std::type_identity<None>>::type;

 public:
  AheadDecoder(M& model, Cache& cache, const Sampler& sampler, GraphUse use)
      : model_(model), cache_(cache), sampler_(sampler) {
    if (use == GraphUse::off) return;
    std::string obstacle = concat("the device ", D::name, " does not record steps of this model");
    if constexpr (has_graphs) obstacle = model.step_capture_obstacle();
    require<ConfigError>(obstacle.empty() || use != GraphUse::on, "[generate] graphs are on, but ", obstacle,
                         "; set graphs to automatic or off");
    if constexpr (has_graphs)
      if (obstacle.empty()) graphs_.emplace(model, cache, sampler);
  }

  /// As decode_ahead.
  auto decode(std::span<const std::int32_t> last, std::span<const std::int32_t> slots,
              const std::vector<double>& uniform, PendingRouting<D>& routing) {
    if constexpr (has_graphs)
      if (graphs_) return graphs_->decode(last, slots, uniform, routing);
    return decode_ahead(model_, cache_, sampler_, last, slots, uniform, routing);
  }

 private:
  M& model_;
  Cache& cache_;
  const Sampler& sampler_;
  Graphs graphs_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
