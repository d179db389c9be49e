// SPDX-License-Identifier: Apache-2.0
// Attention of kdlib::cuda by cuDNN, through the headers of its frontend. Compiled where KDLIB_CUDNN is on.
#include <cuda_runtime.h>
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "../recent_cache.hpp"
#include "kdlib/backend/cuda/context.cuh"
#include "kdlib/backend/cuda/library_attention.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

namespace fe = cudnn_frontend;
using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

void check_plan(fe::error_t error, const char* what, const CudnnPlanKey& key) {
  if (error.is_good()) return;
  fail<BackendError>("[cuda] cuDNN, ", what, " of attention ",
                     key.pass == AttentionPass::forward ? "forward" : "backward", " (", key.documents,
                     " documents up to ", key.length, " tokens, ", key.query_heads, " heads over ", key.kv_heads,
                     " of ", key.head_size, "): ", error.get_message());
}

/// The places of a graph by number.
enum Place : std::int64_t {
  place_q = 1,
  place_k,
  place_v,
  place_out,
  place_log_sum,
  place_out_gradient,
  place_q_gradient,
  place_k_gradient,
  place_v_gradient,
  place_lengths,
  place_query_offsets,
  place_kv_offsets,
  place_log_sum_offsets
};

/// A graph of one pass: documents laid end to end by offsets, causal, with the lengths as padding mask and never a mask
/// tensor. log_sum lies token by token.
class Plan {
 public:
  Plan(const CudnnPlanKey& key, bool with_log_sum, cudnnHandle_t handle) : key_(key) {
    graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    lengths_ = indices(place_lengths, key.documents, fe::DataType_t::INT32);
    query_offsets_ = indices(place_query_offsets, key.documents + 1, fe::DataType_t::INT64);
    kv_offsets_ = indices(place_kv_offsets, key.documents + 1, fe::DataType_t::INT64);
    log_sum_offsets_ = indices(place_log_sum_offsets, key.documents + 1, fe::DataType_t::INT64);
    if (key.pass == AttentionPass::forward) make_forward(with_log_sum);
    else make_backward();
    check_plan(graph_.validate(), "validation", key_);
    check_plan(graph_.build_operation_graph(handle), "graph", key_);
    check_plan(graph_.create_execution_plans({fe::HeurMode_t::A}), "choice of a kernel", key_);
    check_plan(graph_.check_support(handle), "support", key_);
    check_plan(graph_.build_plans(handle, fe::BuildPlanPolicy_t::HEURISTICS_CHOICE), "plan", key_);
    std::int64_t bytes = 0;
    check_plan(graph_.get_workspace_size(bytes), "workspace", key_);
    workspace_bytes_ = bytes;
  }

  void run(const CudnnAttention& a, cudnnHandle_t handle) {
    const auto changeable = [](const void* p) { return const_cast<void*>(p); };
    std::unordered_map<std::int64_t, void*> places = {{place_q, changeable(a.q)},
                                                      {place_k, changeable(a.k)},
                                                      {place_v, changeable(a.v)},
                                                      {place_out, changeable(a.out)},
                                                      {place_lengths, changeable(a.lengths)},
                                                      {place_query_offsets, changeable(a.query_offsets)},
                                                      {place_kv_offsets, changeable(a.kv_offsets)}};
    if (a.log_sum != nullptr) {
      places[place_log_sum] = changeable(a.log_sum);
      places[place_log_sum_offsets] = changeable(a.log_sum_offsets);
    }
    if (key_.pass == AttentionPass::backward) {
      places[place_out_gradient] = changeable(a.out_gradient);
      places[place_q_gradient] = a.q_gradient;
      places[place_k_gradient] = a.k_gradient;
      places[place_v_gradient] = a.v_gradient;
    }
    const Buffer<std::uint8_t, Cuda> workspace(workspace_bytes_);
    check_plan(graph_.execute(handle, places, workspace.data()), "run", key_);
  }

 private:
  TensorPointer indices(std::int64_t place, std::int64_t count, fe::DataType_t type) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_uid(place)
                             .set_data_type(type)
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1}));
  }
  fe::graph::Tensor_attributes vectors(std::int64_t place, std::int64_t heads, std::int64_t width,
                                       const TensorPointer& offsets) const {
    return fe::graph::Tensor_attributes()
        .set_uid(place)
        .set_dim({key_.documents, heads, key_.length, width})
        .set_stride({key_.length * heads * width, width, heads * width, 1})
        .set_ragged_offset(offsets);
  }
  fe::graph::Tensor_attributes queries(std::int64_t place) const {
    return vectors(place, key_.query_heads, key_.head_size, query_offsets_);
  }
  fe::graph::Tensor_attributes keys(std::int64_t place) const {
    return vectors(place, key_.kv_heads, key_.head_size, kv_offsets_);
  }
  fe::graph::Tensor_attributes log_sums() const {
    return vectors(place_log_sum, key_.query_heads, 1, log_sum_offsets_).set_data_type(fe::DataType_t::FLOAT);
  }
  static void become(const TensorPointer& tensor, fe::graph::Tensor_attributes what) {
    tensor->set_output(true)
        .set_uid(what.get_uid())
        .set_dim(what.get_dim())
        .set_stride(what.get_stride())
        .set_ragged_offset(what.get_ragged_offset());
  }

  void make_forward(bool with_log_sum) {
    auto options = fe::graph::SDPA_attributes()
                       .set_name("attention")
                       .set_generate_stats(with_log_sum)
                       .set_causal_mask(true)
                       .set_padding_mask(true)
                       .set_seq_len_q(lengths_)
                       .set_seq_len_kv(lengths_)
                       .set_attn_scale(static_cast<float>(key_.scale));
    const auto [out, log_sum] = graph_.sdpa(graph_.tensor(queries(place_q)), graph_.tensor(keys(place_k)),
                                            graph_.tensor(keys(place_v)), options);
    become(out, queries(place_out));
    if (!with_log_sum) return;
    become(log_sum, log_sums());
    log_sum->set_data_type(fe::DataType_t::FLOAT);
  }
  void make_backward() {
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("attention_backward")
                       .set_causal_mask(true)
                       .set_padding_mask(true)
                       .set_seq_len_q(lengths_)
                       .set_seq_len_kv(lengths_)
                       .set_attn_scale(static_cast<float>(key_.scale))
                       .set_deterministic_algorithm(true);
    const auto [q_gradient, k_gradient, v_gradient] =
        graph_.sdpa_backward(graph_.tensor(queries(place_q)), graph_.tensor(keys(place_k)),
                             graph_.tensor(keys(place_v)), graph_.tensor(queries(place_out)),
                             graph_.tensor(queries(place_out_gradient)), graph_.tensor(log_sums()), options);
    become(q_gradient, queries(place_q_gradient));
    become(k_gradient, keys(place_k_gradient));
    become(v_gradient, keys(place_v_gradient));
  }

  CudnnPlanKey key_;
  fe::graph::Graph graph_;
  TensorPointer lengths_, query_offsets_, kv_offsets_, log_sum_offsets_;
  std::int64_t workspace_bytes_ = 0;
};

/// One handle and the plans of all threads of a program; it outlives every tensor.
struct Library {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;
  RecentCache<CudnnPlanKey, std::unique_ptr<Plan>> with_log_sum{256}, without{256};
};
Library& library() {
  static Library* const one = new Library;
  return *one;
}

void check_cudnn(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS) fail<BackendError>("[cuda] ", what, ": ", cudnnGetErrorString(status));
}

}  // namespace

CudnnFacts cudnn_facts() {
  static const CudnnFacts facts = [] {
    CudnnFacts f{.built = true, .version = static_cast<int>(cudnnGetVersion())};
    int device = 0;
    if (cudaGetDevice(&device) == cudaSuccess) {
      cudaDeviceGetAttribute(&f.major, cudaDevAttrComputeCapabilityMajor, device);
      cudaDeviceGetAttribute(&f.minor, cudaDevAttrComputeCapabilityMinor, device);
    }
    cudaGetLastError();  // answers, not failures
    return f;
  }();
  return facts;
}

void run_cudnn_attention(const CudnnAttention& attention) {
  if (is_dry()) return;
  Library& l = library();
  const std::lock_guard<std::mutex> lock(l.mutex);
  auto& plans = attention.log_sum != nullptr ? l.with_log_sum : l.without;
  std::unique_ptr<Plan>* plan = plans.find(attention.key);
  if (plan == nullptr) {
    refuse_while_capturing("an attention by cuDNN that never ran");
    if (l.handle == nullptr) {
      check_cudnn(cudnnCreate(&l.handle), "cudnnCreate");
      check_cudnn(cudnnSetStream(l.handle, static_cast<cudaStream_t>(compute_stream())), "cudnnSetStream");
    }
    plan = &plans.add(attention.key, std::make_unique<Plan>(attention.key, attention.log_sum != nullptr, l.handle));
  }
  (*plan)->run(attention, l.handle);
}

}  // namespace detail
KDLIB_NAMESPACE_END
