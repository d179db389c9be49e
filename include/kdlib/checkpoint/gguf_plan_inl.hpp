// SPDX-License-Identifier: Apache-2.0
// Plans for GGUF files (load_plan.hpp).
#ifndef KDLIB_CHECKPOINT_GGUF_PLAN_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_PLAN_INL_HPP

#include "kdlib/checkpoint/gguf_names_inl.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/plan_builder_inl.hpp"
#include "kdlib/io/gguf.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The tensor of a part's name, shape and a type that is decoded; nullptr, with a problem, where it is another or none.
KDLIB_FUNC const GgufTensor* planned_find(PlanBuilder& plan, const GgufFile& file, const GgufPart& part) {
  const GgufTensor* t = file.find_tensor(part.name);
  if (t == nullptr) {
    plan.problem(LoadProblemKind::missing, file.path(), ": tensor \"", part.name, "\" ", part.shape,
                 " is missing; the metadata ask for it");
    return nullptr;
  }
  plan.taken(part.name);
  if (!can_decode(t->type)) {
    plan.problem(LoadProblemKind::unfit, file.path_of(*t), ": ", t->text(), ": this element type is not decoded");
    return nullptr;
  }
  const bool as_row =
      part.shape.rank() == 1 && t->shape == Shape{1, part.shape[0]};  // a gate of one row, written with two axes
  if (t->shape == part.shape || as_row) return t;
  plan.problem(LoadProblemKind::unfit, file.path_of(*t), ": ", t->text(), ": the metadata ask for ", part.shape);
  return nullptr;
}

/// output.weight beside token_embd.weight: a head of its own, unless both hold the same numbers.
KDLIB_FUNC void settle_gguf_head(PlanBuilder& builder, LoadPlan& plan, const GgufFile& file) {
  const GgufTensor *e = file.find_tensor("token_embd.weight"), *h = file.find_tensor("output.weight");
  if (e == nullptr || h == nullptr || !can_decode(e->type) || !can_decode(h->type)) return;
  if (e->shape != h->shape || e->shape.rank() != 2) return;
  if (!equal_tables({e->type, e->shape[0], e->shape[1], e->data}, {h->type, h->shape[0], h->shape[1], h->data})) return;
  plan.config.tied_head = true;
  builder.ignore(h->name, "it equals the embedding: the head is tied");
}

/// True for the bias of a linear map of a dense layer, which a GGUF file may leave out in any layer.
KDLIB_FUNC bool is_optional_gguf_bias(std::string_view tensor) {
  return ends_with_any(tensor, {".attn_q.bias", ".attn_k.bias", ".attn_v.bias", ".attn_output.bias", ".ffn_gate.bias",
                                ".ffn_up.bias", ".ffn_down.bias"});
}

KDLIB_FUNC void plan_gguf(LoadPlan& plan, const GgufFile& file, PlanBuilder& builder,
                          const std::vector<WeightSlot>& slots) {
  for (const WeightSlot& slot : slots) {
    PlannedWeight& w = plan.weights.emplace_back(PlannedWeight{slot.name, slot.shape, slot.packable, {}});
    for (const GgufPart& part : gguf_parts(slot.name, slot.shape, plan.config)) {
      if (is_optional_gguf_bias(part.name) && file.find_tensor(part.name) == nullptr) {
        w.zero = true;
        plan.notes.push_back(concat(file.path(), ": ", part.name, " is not there, other layers have it: it is 0"));
        continue;
      }
      const GgufTensor* t = planned_find(builder, file, part);
      if (t == nullptr) continue;
      PlannedTensor planned{
          t->name, file.path_of(*t), gguf_type_name(t->type), t->shape.text(), t->type, TensorDecoding::elements,
          part,    t->data};
      builder.take(w, std::move(planned));
    }
  }
  if (file.find_tensor("rope_freqs.weight") != nullptr)
    builder.ignore("rope_freqs.weight", "read with the metadata: divisors of the rotary frequencies");
  for (const GgufTensor& t :
       builder.left(file.tensors(), [](const GgufTensor& x) -> const std::string& { return x.name; })) {
    std::string reason = harmless_tensor(t.name, static_cast<std::size_t>(t.shape.rank()));
    if (!reason.empty()) builder.ignore(t.name, std::move(reason));
    else
      builder.problem(LoadProblemKind::surplus, file.path_of(t), ": tensor ", t.text(),
                      " has no place in the model that the metadata describe. Running without it would give other "
                      "logits; remove the tensor if they are meant");
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
