// SPDX-License-Identifier: Apache-2.0
// Plans for Hugging Face directories (load_plan.hpp): dense, packed, and the four forms of experts.
#ifndef KDLIB_CHECKPOINT_HF_PLAN_INL_HPP
#define KDLIB_CHECKPOINT_HF_PLAN_INL_HPP

#include <cstdlib>

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/packed_parts.hpp"
#include "kdlib/checkpoint/plan_builder_inl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string extents_text(const TensorInfo& t) {
  std::string text = "[";
  for (std::size_t i = 0; i < t.extents.size(); ++i) text += concat(i == 0 ? "" : ", ", t.extents[i]);
  return text + "]";
}

KDLIB_FUNC PlannedTensor planned_tensor(const TensorInfo& t, TensorDecoding decoding) {
  PlannedTensor out;
  out.name = t.name;
  out.file = t.file == nullptr ? std::string() : *t.file;
  out.type = dtype_name(t.dtype);
  out.shape = extents_text(t);
  out.decoding = decoding;
  out.elements = stored_type(t.dtype);
  out.data = t.data;
  return out;
}

KDLIB_FUNC bool is_weight_type(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16 || dtype == DType::f64;
}

KDLIB_FUNC bool has_shape(const TensorInfo& t, const Shape& shape) {
  return t.extents.size() <= static_cast<std::size_t>(Shape::max_rank) && t.shape() == shape;
}

/// The tensor of that name, shape and type; nullptr, with a problem, where it is another or none. `bytes`: codes.
KDLIB_FUNC const TensorInfo* planned_find(PlanBuilder& plan, const SafetensorsDirectory& files, const std::string& name,
                                          const Shape& shape, bool bytes = false) {
  const TensorInfo* t = files.find(name);
  if (t == nullptr) {
    plan.problem(LoadProblemKind::missing, files.path(), ": tensor \"", name, "\" ", shape,
                 " is missing; config.json asks for it");
    return nullptr;
  }
  plan.taken(name);
  if (bytes ? t->dtype != DType::u8 : !is_weight_type(t->dtype)) {
    plan.problem(LoadProblemKind::unfit, t->text(),
                 bytes ? ": blocks and scales must be U8" : ": weights must be F32, BF16, F16 or F64");
    return nullptr;
  }
  if (!has_shape(*t, shape)) {
    plan.problem(LoadProblemKind::unfit, t->text(), ": config.json asks for ", shape);
    return nullptr;
  }
  return t;
}

KDLIB_FUNC TensorRows rows_of(const Shape& shape, std::int64_t offset) {
  TensorRows rows;
  rows.width = shape.rank() > 1 ? shape[shape.rank() - 1] : 1;
  rows.rows = shape.count() / rows.width;
  rows.offset = offset;
  return rows;
}

KDLIB_FUNC ExpertForm expert_form(const SafetensorsDirectory& files, const std::string& name, Family family) {
  if (family == Family::gpt_oss)
    return files.find(name + "_blocks") != nullptr || files.find(name + "_scales") != nullptr ? ExpertForm::mxfp4
                                                                                              : ExpertForm::transposed;
  return files.find(name) != nullptr ? ExpertForm::fused : ExpertForm::per_expert;
}

/// Packed experts [E, out, in]: a tensor an expert and map, fused, transposed or MXFP4.
KDLIB_FUNC void plan_experts(PlanBuilder& plan, PlannedWeight& w, const SafetensorsDirectory& files, Family family) {
  const ExpertForm form = expert_form(files, w.name, family);
  if (form == ExpertForm::mxfp4 && w.shape[2] % 32 != 0)
    return plan.problem(LoadProblemKind::unfit, files.path(), ": ", w.name, ": rows of ", w.shape[2],
                        " values do not divide into MXFP4 blocks of 32");
  std::int64_t row = 0;
  for (const ExpertTensor& e : expert_tensors(w.name, w.shape, form)) {
    const TensorInfo* t = planned_find(plan, files, e.name, e.shape, form == ExpertForm::mxfp4);
    if (t == nullptr) continue;
    const bool scales = form == ExpertForm::mxfp4 && e.name.ends_with("_scales");
    PlannedTensor planned = planned_tensor(*t, scales                           ? TensorDecoding::mxfp4_scales
                                               : form == ExpertForm::mxfp4      ? TensorDecoding::mxfp4
                                               : form == ExpertForm::transposed ? TensorDecoding::transposed
                                                                                : TensorDecoding::elements);
    planned.rows = rows_of(form == ExpertForm::per_expert ? e.shape : w.shape, row);
    if (form == ExpertForm::per_expert) row += planned.rows.rows;
    plan.take(w, std::move(planned));
  }
}

KDLIB_FUNC void plan_dense(PlanBuilder& plan, PlannedWeight& w, const SafetensorsDirectory& files,
                           const std::string& stored_name) {
  const TensorInfo* t = planned_find(plan, files, stored_name, w.shape);
  if (t == nullptr) return;
  PlannedTensor planned = planned_tensor(*t, TensorDecoding::elements);
  planned.rows = rows_of(w.shape, 0);
  plan.take(w, std::move(planned));
}

/// Factors [E, width, rank] of experts that share cores: a tensor an expert, or one for all.
KDLIB_FUNC void plan_core_factors(PlanBuilder& plan, PlannedWeight& w, const SafetensorsDirectory& files) {
  if (files.find(w.name) != nullptr) return plan_dense(plan, w, files, w.name);
  const Shape one{w.shape[1], w.shape[2]};
  for (std::int64_t e = 0; e < w.shape[0]; ++e) {
    const TensorInfo* t = planned_find(plan, files, core_factor_name(w.name, e), one);
    if (t == nullptr) continue;
    PlannedTensor planned = planned_tensor(*t, TensorDecoding::elements);
    planned.rows = rows_of(one, e * one[0]);
    plan.take(w, std::move(planned));
  }
}

/// A linear map that the directory holds packed. Answers whether it does, or is refused.
KDLIB_FUNC bool plan_packed(PlanBuilder& plan, PlannedWeight& w, const SafetensorsDirectory& files,
                            const PackedFormat& format) {
  std::vector<std::string> names;
  PackedParts parts(files, w.name.substr(0, w.name.size() - 7), w.shape[0], w.shape[1], names);
  parts.only_plan();
  bool packed = false;
  const bool readable = plan.collect([&] { packed = read_packed(parts, format).has_value(); });
  for (const std::string& name : names) {
    PlannedTensor planned = planned_tensor(files.at(name), TensorDecoding::codes);
    planned.rows = rows_of(w.shape, 0);
    plan.take(w, std::move(planned));
  }
  return packed || !readable;
}

/// A table that a packed directory holds in GGUF's blocks.
KDLIB_FUNC void plan_stored_table(PlanBuilder& plan, PlannedWeight& w, const SafetensorsDirectory& files,
                                  GgufType type) {
  const auto values = static_cast<std::int64_t>(block_size(type));
  if (w.shape[1] % values != 0)
    return plan.problem(LoadProblemKind::unfit, files.path(), ": ", w.name, ": rows of ", w.shape[1],
                        " values do not divide into ", gguf_type_name(type), " blocks of ", values);
  const Shape bytes{w.shape[0], w.shape[1] / values * static_cast<std::int64_t>(block_bytes(type))};
  const TensorInfo* t = planned_find(plan, files, w.name, bytes, true);
  if (t == nullptr) return;
  PlannedTensor planned = planned_tensor(*t, TensorDecoding::elements);
  planned.type = gguf_type_name(type);
  planned.elements = type;
  planned.rows = rows_of(w.shape, 0);
  plan.take(w, std::move(planned));
}

/// The type in which the directory stores that table in blocks; empty: as numbers.
KDLIB_FUNC std::optional<GgufType> stored_table_type(const LoadPlan& plan, const std::string& name) {
  if (plan.packed)
    for (const auto& [table, type] : plan.packed->stored)
      if (table == name) return type;
  return std::nullopt;
}

KDLIB_FUNC StoredTable stored_table(const TensorInfo& t) {
  if (!is_weight_type(t.dtype) || t.extents.size() != 2 || t.count() == 0) return {};
  return {stored_type(t.dtype), static_cast<std::int64_t>(t.extents[0]), static_cast<std::int64_t>(t.extents[1]),
          t.data};
}

/// A head that the configuration calls tied: what the files hold decides, as in transformers 5. Answers the name of the
/// tensor that holds the embedding.
KDLIB_FUNC std::string settle_tied_head(PlanBuilder& builder, LoadPlan& plan, const SafetensorsDirectory& files) {
  const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";
  if (!plan.config.tied_head) return embedding;
  const TensorInfo *e = files.find(embedding), *h = files.find(head);
  if (h == nullptr) return embedding;
  if (e == nullptr) {
    plan.notes.push_back(concat(plan.path, ": the embedding is read from lm_head.weight, to which it is tied"));
    return head;
  }
  const StoredTable a = stored_table(*e), b = stored_table(*h);
  if (a.rows > 0 && b.rows > 0 && equal_tables(a, b)) {
    builder.ignore(head, "it equals the embedding, to which the head is tied");
    return embedding;
  }
  plan.config.tied_head = false;
  plan.notes.push_back(concat(plan.path,
                              ": config.json calls the head tied to the embedding, but the files hold "
                              "another lm_head.weight: the head is a weight of its own, and saving "
                              "writes "
                              "tie_word_embeddings false"));
  return embedding;
}

/// Biases that config.json asks for and that no layer of the files holds: the model has none, which is the function
/// that transformers computes, too (it starts missing biases at 0).
KDLIB_FUNC void settle_biases(LoadPlan& plan, const SafetensorsDirectory& files) {
  BiasSettings& b = plan.config.biases;
  std::string none;
  const auto held = [&](const char* module) {
    for (std::int64_t i = 0; i < plan.config.layers; ++i)
      if (files.find(concat("model.layers.", i, ".", module, ".bias")) != nullptr) return true;
    return false;
  };
  for (const NamedBias& bias : named_biases) {
    if (!(b.*bias.flag) || held(bias.module)) continue;
    b.*bias.flag = false;
    none += concat(none.empty() ? "" : ", ", bias.module);
  }
  if (none.empty()) return;
  plan.notes.push_back(concat(plan.path, ": config.json asks for biases of ", none,
                              ", and no layer of the files has one: the model is read without them"));
}

/// A tensor that no weight takes: the configuration speaks of another model, and running without the tensor would give
/// other logits.
KDLIB_FUNC void plan_surplus(PlanBuilder& builder, const LoadPlan& plan, const TensorInfo& t) {
  if (std::string reason = harmless_tensor(t.name, t.extents.size()); !reason.empty())
    return builder.ignore(t.name, std::move(reason));
  constexpr std::string_view prefix = "model.layers.";
  const bool of_layer = t.name.starts_with(prefix) && t.name.size() > prefix.size() && t.name[prefix.size()] >= '0' &&
                        t.name[prefix.size()] <= '9';
  const std::int64_t layer = of_layer ? std::atoll(t.name.c_str() + prefix.size()) : 0;
  if (of_layer && layer >= plan.config.layers)
    return builder.problem(LoadProblemKind::surplus, join_path(plan.path, "config.json"), ": num_hidden_layers is ",
                           plan.config.layers, ", but the files hold layer ", layer, ": tensor \"", t.name, "\"");
  builder.problem(LoadProblemKind::surplus, plan.path, ": tensor \"", t.name,
                  "\" has no place in the model that config.json describes. "
                  "Correct the keys for biases, norms or experts "
                  "there, or remove the tensor");
}

KDLIB_FUNC void plan_directory(LoadPlan& plan, const SafetensorsDirectory& files, PlanBuilder& builder,
                               const std::vector<WeightSlot>& slots, const std::string& embedding_name) {
  if (const auto quantised = Json::parse(plan.config.source_json, plan.path).find_set("quantization_config"))
    plan.packed = parse_packed_format(*quantised, plan.path);
  if (plan.packed)
    for (const char* module : {"model.embed_tokens", "lm_head"})
      builder.collect([&] { refuse_packed_table(files, module); });
  for (const WeightSlot& slot : slots) {
    PlannedWeight& w = plan.weights.emplace_back(PlannedWeight{slot.name, slot.shape, slot.packable, {}});
    const bool table = slot.name == "model.embed_tokens.weight" || slot.name == "lm_head.weight";
    if (const auto type = stored_table_type(plan, w.name)) plan_stored_table(builder, w, files, *type);
    else if (is_expert_tensor(w.name)) plan_experts(builder, w, files, plan.config.family);
    else if (is_core_factor(w.name)) plan_core_factors(builder, w, files);
    else if (!plan.packed || table || !slot.packable || !plan_packed(builder, w, files, *plan.packed))
      plan_dense(builder, w, files, slot.name == "model.embed_tokens.weight" ? embedding_name : slot.name);
  }
  for (const TensorInfo* t :
       builder.left(files.tensors(), [](const TensorInfo* x) -> const std::string& { return x->name; }))
    plan_surplus(builder, plan, *t);
  plan.notes.insert(plan.notes.end(), files.warnings().begin(), files.warnings().end());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
