// SPDX-License-Identifier: Apache-2.0
// Bodies of gguf_adapter.hpp.
#ifndef KDLIB_CHECKPOINT_GGUF_ADAPTER_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_ADAPTER_INL_HPP

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "kdlib/checkpoint/gguf_adapter.hpp"
#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/load_plan.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/quant/gguf_blocks.hpp"
#include "kdlib/quant/gguf_encode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The factors of one map, rows of B in the parameter's order. The update is scale * B A.
template <class T>
struct GgufFactors {
  std::int64_t rank = 0;
  double alpha = 0;  // scale = alpha / rank
  std::vector<T> a, b;
};

/// The pairs of factors of an adapter's file, each to be taken once.
class GgufAdapterFile {
 public:
  /// `operation` as in "[load_adapter] ".
  GgufAdapterFile(std::string operation, const std::string& path, const DecoderConfig& config)
      : operation_(std::move(operation)), file_(path), config_(config) {
    check_keys();
    for (const GgufTensor& t : file_.tensors()) {
      const bool a = t.name.ends_with(".lora_a");
      require<FormatError>(a || t.name.ends_with(".lora_b"), operation_, file_.path(), ": tensor ", t.text(),
                           " is no factor of a LoRA adapter (.lora_a, .lora_b)");
      Pair& pair = pairs_[t.name.substr(0, t.name.size() - 7)];
      (a ? pair.a : pair.b) = &t;
    }
    for (const auto& [name, pair] : pairs_)
      require<FormatError>(pair.a != nullptr && pair.b != nullptr, operation_, file_.path(), ": tensor \"", name,
                           pair.a == nullptr ? ".lora_a" : ".lora_b", "\" is missing beside its partner");
  }

  bool holds(const std::string& tensor) const { return pairs_.count(tensor) > 0; }
  const std::string& path() const { return file_.path(); }

  /// The factors of matrix `index` of the base tensor `part` ([out, in], or [E, out, in] with `index` below E).
  template <class T>
  GgufFactors<T> take(const GgufPart& part, std::int64_t index = 0) {
    Pair& pair = pairs_.at(part.name);
    pair.taken = true;
    const bool stacked = part.shape.rank() == 3;
    const Shape matrix =
        stacked ? Shape{part.shape[1], part.shape[2]} : (part.shape.rank() == 1 ? Shape{1, part.shape[0]} : part.shape);
    GgufFactors<T> f;
    f.rank = pair.a->shape.rank() < 2 ? 1 : pair.a->shape[pair.a->shape.rank() - 2];
    const auto full = [&](std::int64_t rows, std::int64_t columns) {
      return stacked ? Shape{part.shape[0], rows, columns} : Shape{rows, columns};
    };
    check_shape(*pair.a, full(f.rank, matrix[1]), part);
    check_shape(*pair.b, full(matrix[0], f.rank), part);
    f.alpha = alpha_ == 0 ? static_cast<double>(f.rank) : alpha_;
    f.a = values<T>(*pair.a, index, f.rank * matrix[1]);
    const std::vector<T> rows = values<T>(*pair.b, index, matrix[0] * f.rank);
    f.b.resize(rows.size());
    GgufPart order = part;
    order.group = 0;  // rows of one expert follow each other
    order.offset = 0;
    for (std::int64_t r = 0; r < matrix[0]; ++r)
      std::copy_n(rows.begin() + r * f.rank, f.rank, f.b.begin() + order.source(r) * f.rank);
    return f;
  }

  void require_all_taken(const std::string& model) const {
    for (const auto& [name, pair] : pairs_)
      require<FormatError>(pair.taken, operation_, file_.path_of(*pair.a), ": tensor ", pair.a->text(), ": LoRA on ",
                           name, " has no place in the model (", model, ") or is not supported");
  }

 private:
  struct Pair {
    const GgufTensor *a = nullptr, *b = nullptr;
    bool taken = false;
  };

  void check_keys() {
    const auto is = [&](const char* key, std::string_view wanted) {
      const std::string_view value = file_.at(key).as_string();
      require<ConfigError>(value == wanted, operation_, file_.path(), ": ", key, " is \"", printable(value),
                           "\"; an adapter for this model has \"", wanted, "\"");
    };
    is("general.type", "adapter");
    is("adapter.type", "lora");
    is("general.architecture", gguf_architecture(config_.family));
    alpha_ = file_.double_or("adapter.lora.alpha", 0);
    require<ConfigError>(std::isfinite(alpha_), operation_, file_.path(), ": adapter.lora.alpha is not finite");
    require<ConfigError>(file_.find("adapter.alora.invocation_tokens") == nullptr, operation_, file_.path(),
                         ": adapter.alora.invocation_tokens (an activated adapter) is not supported");
  }
  void check_shape(const GgufTensor& t, const Shape& wanted, const GgufPart& part) const {
    require<FormatError>(t.shape == wanted, operation_, file_.path_of(t), ": ", t.text(), ": ", wanted,
                         " is needed beside ", part.name, " ", part.shape, "; is the adapter for another model?");
    require<FormatError>(can_decode(t.type), operation_, file_.path_of(t), ": ", t.text(),
                         ": this element type is not decoded");
  }
  template <class T>
  std::vector<T> values(const GgufTensor& t, std::int64_t index, std::int64_t count) const {
    std::vector<T> part(static_cast<std::size_t>(count));
    const std::size_t skipped = static_cast<std::size_t>(index * count) / block_size(t.type) * block_bytes(t.type);
    decode_elements(t.type, t.data.data() + skipped, part.data(), part.size());
    for (const T x : part)
      require<FormatError>(std::isfinite(x), operation_, file_.path_of(t), ": ", t.text(),
                           ": holds a value that is not finite");
    return part;
  }

  std::string operation_;
  GgufFile file_;
  DecoderConfig config_;
  std::map<std::string, Pair> pairs_;
  double alpha_ = 0;  // 0: the scale is 1, as llama.cpp has it
};

template <class D, class T>
GgufPart gguf_part_of(const Linear<D, T>& l, const DecoderConfig& config) {
  return gguf_parts(l.path + ".weight", Shape{l.out, l.in}, config).front();
}

/// The alpha of most maps of an adapter, as llama.cpp uses it: scale * rank.
template <class D, class T>
double common_gguf_alpha(const std::vector<Linear<D, T>*>& adapted) {
  const auto alpha_of = [](const Linear<D, T>* l) { return l->lora->scale * static_cast<double>(l->lora->rank); };
  double best = 0;
  std::ptrdiff_t most = 0;
  for (const Linear<D, T>* l : adapted) {
    const double alpha = alpha_of(l);
    const auto n = std::count_if(adapted.begin(), adapted.end(), [&](const auto* o) { return alpha_of(o) == alpha; });
    if (n > most) most = n, best = alpha;
  }
  return best;
}

/// The values of a factor as floats, rows in the order of the file, times `factor`.
template <class D, class T>
std::vector<float> gguf_factor_values(const Parameter<T, D>& p, const GgufPart* order, double factor) {
  using C = gradient_t<T>;
  const std::vector<C> host = host_copy<C, D>(p.trained_values());
  std::vector<float> out(host.size());
  const std::int64_t rows = p.value.shape()[0], width = p.value.shape()[1];
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t from = order == nullptr ? r : order->source(r);
    for (std::int64_t i = 0; i < width; ++i)
      out[static_cast<std::size_t>(r * width + i)] =
          static_cast<float>(static_cast<double>(host[static_cast<std::size_t>(from * width + i)]) * factor);
  }
  return out;
}

}  // namespace detail

template <class D, class T>
std::vector<std::string> save_gguf_adapter(Decoder<D, T>& model, const std::string& path,
                                           const GgufAdapterSettings& settings) {
  require<ConfigError>(model.has_adapter(), "[save_gguf_adapter] the model has no adapter");
  const std::string& d = settings.dtype;
  require<ConfigError>(d == "float32" || d == "bfloat16" || d == "float16", "[save_gguf_adapter] dtype ", d,
                       " is not supported; it can be float32, bfloat16 or float16");
  const GgufType type = d == "float32" ? GgufType::f32 : (d == "float16" ? GgufType::f16 : GgufType::bf16);
  std::vector<Linear<D, T>*> adapted;
  for (Linear<D, T>* l : model.adaptable())
    if (l->lora != nullptr) adapted.push_back(l);
  const double alpha = detail::common_gguf_alpha<D, T>(adapted);
  std::vector<std::string> notes;
  GgufWriter writer(path);
  writer.string("general.architecture", detail::gguf_architecture(model.config().family))
      .string("general.type", "adapter");
  if (!settings.name.empty()) writer.string("general.name", settings.name);
  writer.u32("general.file_type", type == GgufType::f32 ? 0 : (type == GgufType::f16 ? 1 : 32))
      .u32("general.quantization_version", 2)
      .string("adapter.type", "lora")
      .f32("adapter.lora.alpha", static_cast<float>(alpha));
  const double stored_alpha = static_cast<double>(static_cast<float>(alpha));
  for (const Linear<D, T>* l : adapted) {
    const detail::GgufPart part = detail::gguf_part_of(*l, model.config());
    const double own = l->lora->scale * static_cast<double>(l->lora->rank);
    const double factor = own == alpha || stored_alpha == 0 ? 1 : own / stored_alpha;
    if (own != alpha)
      notes.push_back(concat(part.name, ".lora_b is multiplied by ", factor, ": its alpha is ", own,
                             ", and the file has one alpha, ", alpha));
    const auto add = [&](const char* ending, const Parameter<T, D>& p, const detail::GgufPart* order, double times) {
      writer.add_from(part.name + ending, type, p.value.shape(), [&p, part, order, times, type](AtomicFile& file) {
        const std::vector<float> values =
            detail::gguf_factor_values<D, T>(p, order == nullptr ? nullptr : &part, times);
        std::vector<std::byte> bytes(values.size() * block_bytes(type));
        encode_row(type, values.data(), bytes.data(), values.size());
        file.write(bytes.data(), bytes.size());
      });
    };
    add(".lora_a", l->lora->a, nullptr, 1);
    add(".lora_b", l->lora->b, &part, factor);
  }
  writer.commit();
  return notes;
}

template <class D, class T>
std::vector<std::string> load_gguf_adapter(Decoder<D, T>& model, const std::string& path) {
  const DecoderConfig& config = model.config();
  require<ConfigError>(!model.has_adapter(), "[load_adapter] ", path,
                       ": the model has an adapter already: remove_adapter(model) first");
  detail::GgufAdapterFile file("[load_adapter] ", path, config);
  std::vector<std::pair<Linear<D, T>*, std::unique_ptr<LoraPair<D, T>>>> pairs;
  for (Linear<D, T>* l : model.adaptable()) {
    const detail::GgufPart part = detail::gguf_part_of(*l, config);
    if (!file.holds(part.name)) continue;
    using C = gradient_t<T>;
    const detail::GgufFactors<C> f = file.template take<C>(part);
    LoraSettings settings;
    settings.rank = f.rank;
    settings.alpha = f.alpha;
    auto pair = detail::make_lora_pair(*l, settings);
    detail::set_trained_values(pair->a, f.a);
    detail::set_trained_values(pair->b, f.b);
    pairs.emplace_back(l, std::move(pair));
  }
  const std::string text =
      concat(family_name(config.family), ", ", config.layers, " layers, width ", config.hidden_size);
  file.require_all_taken(text);
  require<FormatError>(!pairs.empty(), "[load_adapter] ", path, ": the file holds no factors");
  model.set_trainable(false);
  for (auto& [l, pair] : pairs) l->lora = std::move(pair);
  return {};
}

KDLIB_NAMESPACE_END

#endif
