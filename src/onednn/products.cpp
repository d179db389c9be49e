// SPDX-License-Identifier: Apache-2.0
// kdlib/backend/cpu/onednn.hpp by oneDNN's C interface, versions 2.6 and later and 3. Compiled in the project that
// links kdlib::cpu, where KDLIB_ONEDNN found the library.
#include "kdlib/backend/cpu/onednn.hpp"

#include <dlfcn.h>
#include <dnnl.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "kdlib/core/error.hpp"

#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_THREADPOOL
#include <dnnl_threadpool.h>
#elif DNNL_CPU_THREADING_RUNTIME != DNNL_RUNTIME_OMP && DNNL_CPU_THREADING_RUNTIME != DNNL_RUNTIME_SEQ
#error \
    "kdlib: this oneDNN runs its threads by TBB or SYCL; one that is built with OpenMP, a thread pool or none is needed"
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {
namespace {

void check(dnnl_status_t status, const char* call) {
  require<BackendError>(status == dnnl_success, "[gemm] oneDNN's ", call, " fails with status ",
                        static_cast<int>(status));
}

/// While it lives, OpenMP regions of this thread have one thread: kdlib's pool splits the work.
class OneThread {
 public:
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
  OneThread() : before_(calls().get != nullptr ? calls().get() : 1) {
    if (before_ != 1) calls().set(1);
  }
  ~OneThread() {
    if (before_ != 1) calls().set(before_);
  }

 private:
  struct Calls {
    int (*get)() = nullptr;
    void (*set)(int) = nullptr;
  };
  /// Of the OpenMP that oneDNN itself is linked to.
  static const Calls& calls() {
    static const Calls found = [] {
      Calls c;
      c.get = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
      c.set = reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
      require<BackendError>(c.get != nullptr && c.set != nullptr,
                            "[gemm] oneDNN is built with OpenMP, whose omp_set_num_threads is not in this program");
      return c;
    }();
    return found;
  }
  int before_;
#else
  OneThread() {}  // nothing to set; not defaulted, so that a variable of it counts as used
#endif

 public:
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
};

dnnl_engine_t engine() {
  static dnnl_engine* const made = [] {
    dnnl_engine_t e = nullptr;
    check(dnnl_engine_create(&e, dnnl_cpu, 0), "dnnl_engine_create");
    return e;  // kept until the process ends: threads still hold what they compiled
  }();
  return made;
}

template <class Handle, dnnl_status_t (*Destroy)(Handle)>
struct Destroyer {
  void operator()(Handle h) const { Destroy(h); }
};
template <class Handle, dnnl_status_t (*Destroy)(Handle)>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<Handle, Destroy>>;
using Attributes = Owned<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;
using PostOps = Owned<dnnl_post_ops_t, dnnl_post_ops_destroy>;
using Description = Owned<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
using Primitive = Owned<dnnl_primitive_t, dnnl_primitive_destroy>;
using MemoryObject = Owned<dnnl_memory_t, dnnl_memory_destroy>;
using Stream = Owned<dnnl_stream_t, dnnl_stream_destroy>;

/// A matrix's description; its type differs between the versions.
class Matrix {
 public:
#if DNNL_VERSION_MAJOR >= 3
  Matrix(std::int64_t rows, std::int64_t columns, dnnl_data_type_t type, std::int64_t row_stride,
         std::int64_t column_stride) {
    const dnnl_dims_t extents = {rows, columns}, strides = {row_stride, column_stride};
    check(dnnl_memory_desc_create_with_strides(&desc_, 2, extents, type, strides), "memory description");
  }
  ~Matrix() { dnnl_memory_desc_destroy(desc_); }
  const_dnnl_memory_desc_t get() const { return desc_; }

 private:
  dnnl_memory_desc_t desc_ = nullptr;
#else
  Matrix(std::int64_t rows, std::int64_t columns, dnnl_data_type_t type, std::int64_t row_stride,
         std::int64_t column_stride) {
    const dnnl_dims_t extents = {rows, columns}, strides = {row_stride, column_stride};
    check(dnnl_memory_desc_init_by_strides(&desc_, 2, extents, type, strides), "memory description");
  }
  const dnnl_memory_desc_t* get() const { return &desc_; }

 private:
  dnnl_memory_desc_t desc_{};
#endif

 public:
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
};

/// alpha and beta of a product.
Attributes attributes_of(const NarrowProduct& p) {
  dnnl_primitive_attr_t raw = nullptr;
  check(dnnl_primitive_attr_create(&raw), "attributes");
  Attributes attributes(raw);
  check(dnnl_primitive_attr_set_scratchpad_mode(raw, dnnl_scratchpad_mode_user), "scratchpad mode");
  dnnl_post_ops_t ops_raw = nullptr;
  check(dnnl_post_ops_create(&ops_raw), "post operations");
  const PostOps ops(ops_raw);
#if DNNL_VERSION_MAJOR >= 3
  if (p.alpha != 1) check(dnnl_post_ops_append_eltwise(ops_raw, dnnl_eltwise_linear, p.alpha, 0), "factor");
  if (p.beta != 0) check(dnnl_post_ops_append_sum(ops_raw, p.beta, 0, dnnl_data_type_undef), "sum");
#else
  if (p.alpha != 1) check(dnnl_primitive_attr_set_output_scales(raw, 1, 0, &p.alpha), "factor");
  if (p.beta != 0) check(dnnl_post_ops_append_sum(ops_raw, p.beta), "sum");
#endif
  check(dnnl_primitive_attr_set_post_ops(raw, ops_raw), "post operations");
  return attributes;
}

/// The code of one shape, with the memory objects that name its arguments.
class Compiled {
 public:
  explicit Compiled(const NarrowProduct& p) {
    const Matrix a(p.m, p.k, dnnl_bf16, p.transpose_a ? 1 : p.lda, p.transpose_a ? p.lda : 1);
    const Matrix b(p.k, p.n, dnnl_bf16, p.transpose_b ? 1 : p.ldb, p.transpose_b ? p.ldb : 1);
    const Matrix c(p.m, p.n, p.wide ? dnnl_f32 : dnnl_bf16, p.ldc, 1);
    const Attributes attributes = attributes_of(p);
    dnnl_primitive_desc_t raw = nullptr;
#if DNNL_VERSION_MAJOR >= 3
    check(dnnl_matmul_primitive_desc_create(&raw, engine(), a.get(), b.get(), nullptr, c.get(), attributes.get()),
          "product");
#else
    dnnl_matmul_desc_t operation;
    check(dnnl_matmul_desc_init(&operation, a.get(), b.get(), nullptr, c.get()), "product");
    check(dnnl_primitive_desc_create(&raw, &operation, attributes.get(), engine(), nullptr), "product");
#endif
    const Description description(raw);
    dnnl_primitive_t made = nullptr;
    check(dnnl_primitive_create(&made, raw), "dnnl_primitive_create");
    primitive_.reset(made);
    const auto scratch = dnnl_primitive_desc_query_md(raw, dnnl_query_scratchpad_md, 0);
    scratch_bytes_ = dnnl_memory_desc_get_size(scratch);
    name(0, DNNL_ARG_SRC, a.get());
    name(1, DNNL_ARG_WEIGHTS, b.get());
    name(2, DNNL_ARG_DST, c.get());
    name(3, DNNL_ARG_SCRATCHPAD, scratch);
  }

  void run(const NarrowProduct& p, dnnl_stream_t stream, std::vector<char>& scratch) {
    constexpr std::size_t line = 64;
    if (scratch.size() < scratch_bytes_ + line) scratch.resize(scratch_bytes_ + line);
    char* at = scratch.data() + (line - reinterpret_cast<std::uintptr_t>(scratch.data()) % line) % line;
    // oneDNN's arguments are not const; it reads A and B alone.
    const std::array<void*, 4> places = {const_cast<bf16*>(p.a), const_cast<bf16*>(p.b), p.c, at};
    for (std::size_t i = 0; i < places.size(); ++i)
      check(dnnl_memory_set_data_handle(memory_[i].get(), places[i]), "dnnl_memory_set_data_handle");
    check(dnnl_primitive_execute(primitive_.get(), stream, static_cast<int>(arguments_.size()), arguments_.data()),
          "dnnl_primitive_execute");
    check(dnnl_stream_wait(stream), "dnnl_stream_wait");
  }

 private:
  template <class Desc>
  void name(std::size_t place, int argument, Desc desc) {
    dnnl_memory_t made = nullptr;
    check(dnnl_memory_create(&made, desc, engine(), DNNL_MEMORY_NONE), "dnnl_memory_create");
    memory_[place].reset(made);
    arguments_[place] = {argument, made};
  }

  Primitive primitive_;
  std::size_t scratch_bytes_ = 0;
  std::array<MemoryObject, 4> memory_;
  std::array<dnnl_exec_arg_t, 4> arguments_{};
};

/// What one thread has compiled. Shapes beyond the limit start it anew, so that it stays small.
class Shapes {
 public:
  Compiled& of(const NarrowProduct& p) {
    const Key key{p.transpose_a, p.transpose_b, p.wide, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.alpha, p.beta};
    auto found = shapes_.find(key);
    if (found != shapes_.end()) return *found->second;
    if (shapes_.size() >= most) shapes_.clear();
    return *shapes_.emplace(key, std::make_unique<Compiled>(p)).first->second;
  }

  dnnl_stream_t stream() {
    if (stream_ == nullptr) {
      dnnl_stream_t made = nullptr;
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_THREADPOOL
      check(dnnl_threadpool_interop_stream_create(&made, engine(), nullptr), "stream");
#else
      check(dnnl_stream_create(&made, engine(), dnnl_stream_default_flags), "stream");
#endif
      stream_.reset(made);
    }
    return stream_.get();
  }

  std::vector<char> scratch;

 private:
  static constexpr std::size_t most = 1024;
  using Key = std::tuple<bool, bool, bool, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                         std::int64_t, float, float>;
  std::map<Key, std::unique_ptr<Compiled>> shapes_;
  Stream stream_;
};

}  // namespace

NarrowUnit onednn_unit() {
  static const NarrowUnit unit = [] {
#if defined(__x86_64__)
    const auto has = [](unsigned all, dnnl_cpu_isa_t of) {
      return (all & static_cast<unsigned>(of)) == static_cast<unsigned>(of);
    };
    const unsigned isa = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
    if (has(isa, dnnl_cpu_isa_avx512_core_amx)) return NarrowUnit::amx;
    if (has(isa, dnnl_cpu_isa_avx512_core_bf16)) return NarrowUnit::avx512_bf16;
#endif
    return NarrowUnit::none;
  }();
  return unit;
}

std::string onednn_name() {
  const dnnl_version_t* v = dnnl_version();
  const char* unit = onednn_unit() == NarrowUnit::amx           ? " (AMX)"
                     : onednn_unit() == NarrowUnit::avx512_bf16 ? " (AVX512-BF16)"
                                                                : " (no BF16 instructions)";
  return concat("oneDNN ", v->major, ".", v->minor, ".", v->patch, unit);
}

void onednn_product(const NarrowProduct& product) {
  thread_local Shapes shapes;
  const OneThread alone;
  shapes.of(product).run(product, shapes.stream(), shapes.scratch);
}

}  // namespace detail
KDLIB_NAMESPACE_END
