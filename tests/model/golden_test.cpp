// SPDX-License-Identifier: Apache-2.0
// Logits, losses and gradients of hash-generated models against float64 numbers from an independent implementation
// (confirmed with transformers 5.23, Mistral and Gemma by tests/reference/models alone).
#include "golden.hpp"

#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/loss/losses.hpp"
#include "kdlib/rollout/head_logits.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::cross_entropy_backward;

namespace {

constexpr double printed = 1e-9;  // the expected numbers have nine decimals

struct Entry {
  const char* tensor;
  std::int64_t index;
  double value;
};

struct Golden {
  Family family;
  std::vector<double> last, first;  // logits[5][0..7], logits[0][0..2]
  double sum, loss;
  std::vector<Entry> gradients;
  double balance = 0;  // both layers together, without a weight
};

const std::vector<Golden>& goldens() {
  static const std::vector<Golden> list = {
      {Family::llama,
       {0.888747393, 0.446121782, 0.659586134, -0.279923874, -0.675183382, 0.644157221, -0.238555283, 0.149966649},
       {0.521778687, -0.936026442, 0.474985334},
       -7.327971067,
       3.229913132,
       {{"model.embed_tokens.weight", 40, 0.117216776},
        {"model.layers.0.self_attn.q_proj.weight", 0, -0.017482536},
        {"model.layers.0.self_attn.k_proj.weight", 3, 0.054240282},
        {"model.layers.1.self_attn.v_proj.weight", 9, 0.260587395},
        {"model.layers.1.self_attn.o_proj.weight", 17, -0.082192770},
        {"model.layers.0.input_layernorm.weight", 2, 0.146221214},
        {"model.layers.1.post_attention_layernorm.weight", 5, 0.057603687},
        {"model.layers.0.mlp.gate_proj.weight", 11, 0.013980174},
        {"model.layers.1.mlp.down_proj.weight", 4, 0.016786192},
        {"model.norm.weight", 7, -0.106923463}}},
      {Family::qwen2,
       {-0.277048900, 0.259327045, 0.650852079, -0.252666676, -0.685415340, 0.004256761, 0.967749796, -0.299106063},
       {-0.030023790, -0.586216837, -0.165001210},
       -0.921477478,
       2.785405757,
       {{"model.embed_tokens.weight", 40, -0.021261458},
        {"lm_head.weight", 59, -0.062650448},
        {"model.layers.0.self_attn.q_proj.bias", 1, -0.039139852},
        {"model.layers.1.self_attn.k_proj.bias", 2, -0.040649782},
        {"model.layers.0.self_attn.v_proj.bias", 6, 0.186210868}}},
      {Family::qwen3,
       {0.093489623, 0.057888261, -1.030815306, 0.669017459, 0.557726275, -1.193659347, 0.752084653, 1.009435513},
       {-0.025109961, 0.507451572, -0.955578229},
       4.327655439,
       3.096396273,
       {{"model.embed_tokens.weight", 40, 0.119247963},
        {"model.layers.0.self_attn.q_norm.weight", 1, 0.015692450},
        {"model.layers.1.self_attn.k_norm.weight", 4, 0.002380914},
        {"model.layers.0.self_attn.q_proj.weight", 0, -0.023414691}}},
      {Family::qwen3_moe,
       {0.453166301, -0.638817273, -0.620108819, 0.878524684, -0.023131169, -0.580468329, -0.163998055, 1.103292629},
       {0.822756654, -0.634491712, -0.853939362},
       -18.862965734,
       2.589271398,
       {{"lm_head.weight", 59, 0.099301476},
        {"model.layers.0.mlp.gate.weight", 3, -0.002940318},
        {"model.layers.1.mlp.gate.weight", 12, -0.013134977},
        {"model.layers.0.mlp.experts.0.up_proj.weight", 5, 0.001610534},
        {"model.layers.0.mlp.experts.1.up_proj.weight", 5, -0.000921702},
        {"model.layers.0.mlp.experts.2.up_proj.weight", 5, 0.007931834},
        {"model.layers.0.mlp.experts.3.up_proj.weight", 5, -0.000547468}},
       2.250468481},
      {Family::qwen2_moe,
       {0.510947493, -0.753928210, 0.985144785, 1.076341785, -1.082324419, 0.305978109, 1.017124973, 0.967763206},
       {1.405549625, -1.260828895, -0.670292011},
       -0.624507467,
       2.504435788,
       {{"model.layers.0.mlp.gate.weight", 3, -0.008828709},
        {"model.layers.0.mlp.shared_expert_gate.weight", 2, 0.056475403},
        {"model.layers.1.mlp.shared_expert.down_proj.weight", 6, -0.006510763},
        {"model.layers.1.mlp.experts.0.down_proj.weight", 5, 0.010596175},
        {"model.layers.1.mlp.experts.1.down_proj.weight", 5, 0.026126167},
        {"model.layers.1.mlp.experts.2.down_proj.weight", 5, -0.012476422},
        {"model.layers.1.mlp.experts.3.down_proj.weight", 5, -0.000357035}},
       2.042844471},
      {Family::gpt_oss,
       {-0.405487678, 1.248436937, 0.704730772, 0.703315503, -0.933597950, -0.967578404, 1.131122133, 0.001177636},
       {-1.057902838, 0.958310127, 0.654490034},
       15.372648378,
       3.159861835,
       {{"model.layers.0.self_attn.sinks", 1, -0.051222399},
        {"model.layers.1.self_attn.sinks", 3, 0.006159778},
        {"model.layers.0.mlp.router.weight", 3, -0.000765586},
        {"model.layers.0.mlp.router.bias", 2, -0.031159231},
        {"model.layers.0.self_attn.o_proj.bias", 4, -0.333914599},
        {"model.layers.0.mlp.experts.gate_up_proj", 129, 0.013958115},
        {"model.layers.1.mlp.experts.gate_up_proj", 272, 0.000251544},
        {"model.layers.1.mlp.experts.down_proj", 73, 0},
        {"model.layers.0.mlp.experts.down_proj_bias", 3, 0.004868415},
        {"model.layers.0.mlp.experts.gate_up_proj_bias", 17, -0.001981361}},
       2.189155105},
      {Family::mistral,
       {-1.447340663, 0.425399625, 0.992732289, -0.935982307, 1.223936332, 0.289030856, -0.198462798, -1.807971157},
       {0.898984410, -0.055826156, 0.034505108},
       11.580808006,
       2.832573415,
       {{"model.embed_tokens.weight", 40, 0.293100444},
        {"lm_head.weight", 59, 0.109225702},
        {"model.layers.0.self_attn.q_proj.weight", 0, -0.129249427},
        {"model.layers.1.self_attn.k_proj.weight", 9, 0.000234247},
        {"model.layers.0.self_attn.o_proj.weight", 17, -0.236459381},
        {"model.layers.1.post_attention_layernorm.weight", 5, 0.038728583},
        {"model.layers.0.mlp.gate_proj.weight", 11, -0.005047005}}},
      {Family::gemma2,
       {1.020187294, 0.188996150, 0.913682401, -0.635241258, -0.053542764, -0.119699266, -0.171678833, 0.095385256},
       {0.758119720, -0.842343797, 0.171996037},
       -4.835545576,
       3.291356511,
       {{"model.embed_tokens.weight", 40, 0.175387152},
        {"model.layers.0.self_attn.q_proj.weight", 0, -0.006698175},
        {"model.layers.1.self_attn.q_proj.weight", 5, -0.006951443},
        {"model.layers.0.self_attn.k_proj.weight", 3, 0.016954125},
        {"model.layers.1.self_attn.k_proj.weight", 9, 0.005491416},
        {"model.layers.1.self_attn.v_proj.weight", 9, 0.070820051},
        {"model.layers.1.self_attn.o_proj.weight", 17, -0.032187215},
        {"model.layers.0.input_layernorm.weight", 2, 0.304220365},
        {"model.layers.0.post_attention_layernorm.weight", 3, 0.111624763},
        {"model.layers.1.pre_feedforward_layernorm.weight", 5, 0.096612829},
        {"model.layers.1.post_feedforward_layernorm.weight", 1, -0.022603451},
        {"model.layers.0.mlp.gate_proj.weight", 11, 0.002987500},
        {"model.layers.0.mlp.up_proj.weight", 20, -0.201677031},
        {"model.layers.1.mlp.down_proj.weight", 4, 0.015618450},
        {"model.norm.weight", 7, -0.186950918}}},
      {Family::gemma3,
       {-0.262483783, 0.568911772, -0.711665410, 1.118853466, 0.228049847, -0.746884870, 0.854715519, 0.717130662},
       {0.500377854, -0.619092346, -0.372677630},
       8.430077007,
       3.040496810,
       {{"model.embed_tokens.weight", 40, 0.115018342},
        {"model.layers.0.self_attn.q_norm.weight", 1, -0.023380750},
        {"model.layers.1.self_attn.k_norm.weight", 4, -0.084393855},
        {"model.layers.0.self_attn.q_proj.weight", 0, 0.047899276},
        {"model.layers.1.self_attn.k_proj.weight", 9, -0.017022260},
        {"model.layers.1.post_attention_layernorm.weight", 3, -0.104300669},
        {"model.layers.0.post_feedforward_layernorm.weight", 1, 0.120056898},
        {"model.layers.1.mlp.gate_proj.weight", 11, 0.031931963}}}};
  return list;
}

/// The loss and its gradients once more through the fused head, which never holds all logits.
template <class T>
void check_fused_loss(Decoder<Cpu, T>& model, const TokenBatch& batch, const Golden& golden, double tolerance) {
  model.zero_gradients();
  const Tensor<T, Cpu> hidden = model.forward_training(batch);
  const TokenBatch::Rows rows = batch.rows();  // every token but the last, in order
  Tensor<T, Cpu> gradient = Tensor<T, Cpu>::zeros(hidden.shape());
  const auto count = static_cast<std::int64_t>(rows.token.size());
  const HeadLossResult result = head_loss(CrossEntropy{}, model.head(), std::as_const(hidden).rows(0, count),
                                          NoTargets{}, RowInputs{rows.label, rows.weight, {}}, 1 / batch.weight(),
                                          gradient.rows(0, count), model.head_parameter());
  CHECK(std::abs(result.loss.mean() - golden.loss) < tolerance);
  model.backward(std::as_const(gradient).view());
  for (const Entry& e : golden.gradients) {
    CAPTURE(e.tensor, e.index);
    CHECK(std::abs(kdlib_tests::golden_gradient(model, e.tensor, e.index) - e.value) < tolerance);
  }
  const Tensor<T, Cpu> drawn = head_logits(model.head(), std::as_const(hidden).view());
  const std::vector<T> logits = kdlib_tests::logits_of(model, hidden);
  CHECK(kdlib_tests::max_difference(drawn.data(), logits.data(), logits.size()) < tolerance);
}

template <class T>
void check_golden(const Golden& golden, double tolerance, bool recompute) {
  auto model = Decoder<Cpu, T>::from_config(kdlib_tests::golden_config(golden.family), 1);
  kdlib_tests::fill_golden(model);
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 3, 7, 2, 11});
  const Tensor<T, Cpu> hidden = model.forward_training(batch, {.recompute = recompute});
  const std::vector<T> logits = kdlib_tests::logits_of(model, hidden);
  double sum = 0;
  for (const T x : logits) sum += static_cast<double>(x);
  CHECK(std::abs(sum - golden.sum) < 20 * tolerance);
  for (std::size_t i = 0; i < golden.last.size(); ++i)
    CHECK(std::abs(static_cast<double>(logits[5 * 16 + i]) - golden.last[i]) < tolerance);
  for (std::size_t i = 0; i < golden.first.size(); ++i)
    CHECK(std::abs(static_cast<double>(logits[i]) - golden.first[i]) < tolerance);
  const double loss = cross_entropy_backward(model, hidden, batch.rows(), batch.weight());
  CHECK(std::abs(loss - golden.loss) < tolerance);
  for (const Entry& e : golden.gradients) {
    CAPTURE(e.tensor, e.index);
    CHECK(std::abs(kdlib_tests::golden_gradient(model, e.tensor, e.index) - e.value) < tolerance);
  }
  if (golden.balance == 0) return check_fused_loss(model, batch, golden, tolerance);
  model.set_router_policy({.balance = 0.5, .z = 0});
  model.forward_training(batch, {.recompute = recompute});
  CHECK(std::abs(model.router_report().balance - golden.balance) < tolerance);
}

}  // namespace

TEST_CASE("the weight generator gives the published values", "[model][golden]") {
  CHECK(kdlib_tests::hash_value("a", 0) == -0.12826907634735107);
  CHECK(kdlib_tests::hash_value("a", 3) == -0.45556026697158813);
}

TEST_CASE("golden models equal the float64 numbers in double", "[model][golden]") {
  for (const Golden& g : goldens())
    for (const bool recompute : {false, true}) {
      CAPTURE(family_name(g.family), recompute);
      check_golden<double>(g, 1e-8 + printed, recompute);
    }
}

TEST_CASE("golden models equal the float64 numbers in float", "[model][golden]") {
  for (const Golden& g : goldens()) {
    CAPTURE(family_name(g.family));
    check_golden<float>(g, kdlib_tests::Tolerance<float>::reduction, false);
  }
}
