// SPDX-License-Identifier: Apache-2.0
// Caches in HDF5: the same arrays as in safetensors, resumed and damaged ones, and the files of MoE_Factorize_Compress.
#include "kdlib/hdf5.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>

#include "kdlib/io/json.hpp"
#include "kdlib/teacher/merge_cache.hpp"
#include "support/catch.hpp"
#include "support/fault_hook.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "teacher/cache_support.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

CacheSettings in_hdf5(CacheSettings s, int gzip = 4) {
  s.container = CacheContainer::hdf5;
  s.gzip = gzip;
  return s;
}

/// HDF5 is not there for the scope.
struct WithoutHdf5 {
  const Hdf5Functions* before = std::exchange(detail::installed_hdf5_functions(), nullptr);
  ~WithoutHdf5() { detail::installed_hdf5_functions() = before; }
};

}  // namespace

TEST_CASE("a program without HDF5 refuses such caches and names the package", "[teacher][cache]") {
  const WithoutHdf5 without;
  const TemporaryDirectory folder;
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  CHECK_THAT(refusal([&] { make_cache(model, folder / "c", in_hdf5(top_k_settings()), documents); }),
             contains("was built without HDF5; it needs kdlib's component hdf5") && contains("libhdf5-dev"));
  CHECK_FALSE(path_exists(folder / "c"));
  CHECK_THAT(refusal([&] { CacheSegment{folder / "segment.h5"}; }), contains("segment.h5: this program was built"));
}

#if defined(KDLIB_WITH_HDF5)

namespace {

/// Writes one dataset of a file that is made for a test.
template <class T>
void put(hid_t file, const char* name, hid_t stored, hid_t type, std::vector<hsize_t> shape,
         const std::vector<T>& values) {
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  const hid_t set = H5Dcreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  REQUIRE(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  H5Dclose(set);
  H5Sclose(space);
}

constexpr std::int64_t seed_length = 4, seed_top_k = 3;

float seed_logit(std::int64_t sample, std::int64_t token, std::int64_t k) {
  return static_cast<float>(8 + sample - 2 * k) + 0.25f * static_cast<float>(token);
}

/// The files of `workers` workers for `total` samples of 3 and 4 tokens; `interleaved` as streams share them.
void write_seed_files(const std::string& folder, std::int64_t total, std::int64_t workers, SeedOrder order) {
  make_directories(folder);
  for (std::int64_t w = 0; w < workers; ++w) {
    std::vector<float> values;
    std::vector<std::int32_t> ids, lengths;
    for (std::int64_t n = 0; n < total; ++n) {
      const auto [k, row] = detail::seed_place(n, total, workers, order);
      if (static_cast<std::int64_t>(k) != w) continue;
      CHECK(row == static_cast<std::int64_t>(lengths.size()));
      lengths.push_back(static_cast<std::int32_t>(3 + n % 2));
      for (std::int64_t t = 0; t < seed_length; ++t)
        for (std::int64_t i = 0; i < seed_top_k; ++i) {
          const bool there = t < lengths.back();  // behind a text stands whatever was there
          values.push_back(there ? seed_logit(n, t, i) : 777.0f * static_cast<float>(i));
          ids.push_back(there ? static_cast<std::int32_t>((n + t + i) % toy_vocabulary) : -5);
        }
    }
    const std::string name = workers == 1 ? "teacher_logits.h5" : concat("teacher_logits_worker", w, ".h5");
    const hid_t file = H5Fcreate((folder + "/" + name).c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t half = detail::hdf5_half();
    const auto n = static_cast<hsize_t>(lengths.size());
    put(file, "logits_values", half, H5T_NATIVE_FLOAT, {n, seed_length, seed_top_k}, values);
    put(file, "logits_indices", H5T_STD_I32LE, H5T_NATIVE_INT32, {n, seed_length, seed_top_k}, ids);
    put(file, "seq_lengths", H5T_STD_I32LE, H5T_NATIVE_INT32, {n}, lengths);
    H5Tclose(half);
    H5Fclose(file);
  }
  write_file_atomically(folder + (workers == 1 ? "/metadata.json" : "/metadata_worker0.json"),
                        R"({"num_samples": 5, "max_seq_length": 4, "top_k": 3, "vocab_size": 17})");
}

TokenBatch seed_documents(std::int64_t total) {
  TokenBatch batch;
  for (std::int64_t n = 0; n < total; ++n) {
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < 3 + n % 2; ++t) ids.push_back(static_cast<std::int32_t>((n + 5 * t) % toy_vocabulary));
    batch.append(ids);
  }
  return batch;
}

}  // namespace

TEST_CASE("a cache in HDF5 holds the arrays of one in safetensors, however often it is made", "[teacher][cache]") {
  use_hdf5_caches();
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  for (const CacheStore store : {CacheStore::f32, CacheStore::f16, CacheStore::bf16}) {
    CAPTURE(static_cast<int>(store));
    CacheSettings s = store == CacheStore::bf16 ? hidden_settings() : top_k_settings();
    s.store = store;
    const TemporaryDirectory folder;
    make_cache(model, folder / "plain", s, documents);
    make_cache(model, folder / "hdf5", in_hdf5(s), documents);
    make_cache(model, folder / "again", in_hdf5(s), documents);
    make_cache(model, folder / "loose", in_hdf5(s, 0), documents);
    CHECK(run_files(folder / "hdf5") == run_files(folder / "again"));
    const TeacherCache plain(folder / "plain"), compressed(folder / "hdf5"), loose(folder / "loose");
    compressed.verify();
    CHECK(compressed.tokens().ids == plain.tokens().ids);
    CHECK(compressed.tokens().weights == plain.tokens().weights);
    for (std::int32_t segment = 0; segment < 3; ++segment)
      for (const CacheColumn& column : cache_columns(plain.meta())) {
        CAPTURE(segment, column.name);
        const TensorInfo& a = plain.column(segment, column.name.c_str());
        for (const TeacherCache* cache : {&compressed, &loose}) {
          const TensorInfo& b = cache->column(segment, column.name.c_str());
          CHECK(a.dtype == b.dtype);
          CHECK(a.extents == b.extents);
          CHECK(std::equal(a.data.begin(), a.data.end(), b.data.begin(), b.data.end()));
        }
      }
    const CacheMeta merged = merge_teacher_caches({folder / "hdf5"}, folder / "merged");
    CHECK(merged.settings.container == CacheContainer::hdf5);
    CHECK(TeacherCache(folder / "merged").tokens().ids == plain.tokens().ids);
  }
}

TEST_CASE("damaged and foreign HDF5 segments are made again or refused, and containers are not mixed",
          "[teacher][cache]") {
  use_hdf5_caches();
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  const TemporaryDirectory folder;
  const CacheSettings s = in_hdf5(top_k_settings());
  make_cache(model, folder / "c", s, documents);
  const auto expected = run_files(folder / "c");
  const std::string segment = folder / "c/segments/000_000001.h5";
  const std::string whole = read_file(segment);
  write_file_atomically(segment, whole.substr(0, whole.size() / 2));
  CHECK_THAT(refusal([&] { TeacherCache(folder / "c"); }), contains("000_000001.h5"));
  make_cache(model, folder / "c", s, documents);
  CHECK(run_files(folder / "c") == expected);
  write_file_atomically(segment, "no HDF5");
  CHECK_THAT(refusal([&] { TeacherCache(folder / "c"); }), contains("no HDF5 file, or a damaged one"));
  CacheSettings other = s;
  other.top_k = 4;
  make_cache(model, folder / "other", other, documents);
  write_file_atomically(segment, read_file(folder / "other/segments/000_000001.h5"));
  CHECK_THAT(refusal([&] { TeacherCache(folder / "c"); }), contains("belongs to another cache"));
  CHECK_THAT(refusal([&] { make_cache(model, folder / "c", top_k_settings(), documents); }),
             contains("the files are hdf5, now --format is safetensors"));
  CHECK_THAT(refusal([&] { make_cache(model, folder / "x", in_hdf5(top_k_settings(), 10), documents); }),
             contains("gzip is 10; it must be from 0 to 9"));
}

TEST_CASE("an HDF5 segment that is killed at a write, or finds no room, leaves whole ones alone", "[teacher][cache]") {
  use_hdf5_caches();
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  const CacheSettings s = in_hdf5(top_k_settings());
  const OneThread alone;
  const TemporaryDirectory folder;
  make_cache(model, folder / "whole", s, documents);
  const auto expected = run_files(folder / "whole");
  for (const char* kind : {"write", "fsync", "rename"})
    for (int n = 1; n <= 5; ++n) {  // meta.json twice, three segments
      const std::string out = folder / concat("killed_", kind, n);
      const int status = status_of_child([&] {
        const Fault fault(concat(kind, ":", n, ":kill"));
        make_cache(model, out, s, documents);
      });
      CHECK(WIFSIGNALED(status));
      make_cache(model, out, s, documents);
      CHECK(run_files(out) == expected);
    }
  // A limit on the size of files stands for a full disk: meta.json fits, a segment does not.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{4096, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string error = refusal([&] { make_cache(model, folder / "full", s, documents); });
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK_THAT(error, contains("segments/000_000000.h5"));
  make_cache(model, folder / "full", s, documents);
  CHECK(run_files(folder / "full") == expected);
}

TEST_CASE("the files of MoE_Factorize_Compress become a cache of their text, in both orders of workers",
          "[teacher][cache]") {
  use_hdf5_caches();
  const TokenBatch documents = seed_documents(5);
  for (const std::int64_t workers : {1, 2, 3})
    for (const SeedOrder order : {SeedOrder::contiguous, SeedOrder::interleaved}) {
      CAPTURE(workers, static_cast<int>(order));
      const TemporaryDirectory folder;
      write_seed_files(folder / "seed", 5, workers, order);
      const CacheMeta meta = import_seed_cache(folder / "seed", order, documents, folder / "out", {}, {1, 2}, 2);
      CHECK((meta.complete && meta.facts.vocabulary == 17 && meta.rows == 12));
      const TeacherCache cache(folder / "out");
      std::size_t at = 0;
      const auto places = cache.find_rows(documents);
      for (std::int64_t n = 0; n < 5; ++n)
        for (std::int64_t t = 0; t + 1 < documents.length(n); ++t, ++at) {
          const auto lp = read_as<float>(cache.column(places[at].segment, "values"));
          const auto norms = read_as<float>(cache.column(places[at].segment, "log_norm"));
          double sum = 0, half = 0;
          for (int i = 0; i < 3; ++i) sum += std::exp(-2.0 * i), half += std::exp(-1.0 * i);
          const auto row = static_cast<std::size_t>(places[at].row);
          for (std::size_t i = 0; i < 3; ++i)
            CHECK(lp[3 * row + i] == Approx(-2.0 * static_cast<double>(i) - std::log(sum)).margin(1e-6));
          CHECK(norms[2 * row] == Approx(0).margin(1e-6));
          CHECK(norms[2 * row + 1] == Approx(std::log(half) - 0.5 * std::log(sum)).margin(1e-6));
          CHECK(read_as<std::int32_t>(cache.column(places[at].segment, "indices"))[3 * row] == (n + t) % 17);
          CHECK(read_as<float>(cache.column(places[at].segment, "tail_logmass"))[2 * row] < -1e30f);
        }
      const TopKCache top = TopKCache::open(folder / "out");
      CHECK_NOTHROW(CachedTeacher<Cpu>(top, {.temperature = 2}));
    }
}

TEST_CASE("a file that h5py wrote in chunks of half precision reads as NumPy's numbers", "[teacher][cache]") {
  use_hdf5_caches();
  const Json expected = Json::parse_file(reference_file("hdf5/expected.json"));
  TokenBatch documents;
  for (const Json& text : expected.at("ids")) {
    std::vector<std::int32_t> ids;
    for (const Json& id : text) ids.push_back(static_cast<std::int32_t>(id.as_int()));
    documents.append(ids);
  }
  const TemporaryDirectory folder;
  import_seed_cache(reference_file("hdf5"), SeedOrder::contiguous, documents, folder / "out");
  const TeacherCache cache(folder / "out");
  const auto values = read_as<float>(cache.column(0, "values")), norms = read_as<float>(cache.column(0, "log_norm"));
  const auto indices = read_as<std::int32_t>(cache.column(0, "indices"));
  const Json rows = expected.at("rows");
  REQUIRE(values.size() == 5 * rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    CAPTURE(r);
    CHECK(norms[2 * r + 1] == Approx(rows[r].at("log_norm_2").as_double()).epsilon(1e-5));
    for (std::size_t i = 0; i < 5; ++i) {
      CHECK(values[5 * r + i] == Approx(rows[r].at("log_probs")[i].as_double()).epsilon(1e-5).margin(1e-6));
      CHECK(indices[5 * r + i] == rows[r].at("indices")[i].as_int());
    }
  }
}

TEST_CASE("files of MoE_Factorize_Compress that do not fit the text are refused by file and sample",
          "[teacher][cache]") {
  use_hdf5_caches();
  const TemporaryDirectory folder;
  write_seed_files(folder / "seed", 5, 2, SeedOrder::interleaved);
  int made = 0;
  const auto refused = [&](const TokenBatch& documents, SeedOrder order) {
    return refusal([&] { import_seed_cache(folder / "seed", order, documents, folder / concat("out", made++)); });
  };
  CHECK_THAT(refused(seed_documents(4), SeedOrder::interleaved), contains("5 samples, the text has 4"));
  CHECK_THAT(refused(seed_documents(5), SeedOrder::contiguous),
             contains("seq_lengths is") && contains("is --seed-order right"));
  edit(folder / "seed/metadata_worker0.json", "\"top_k\": 3", "\"top_k\": 4");
  CHECK_THAT(refused(seed_documents(5), SeedOrder::interleaved), contains("top_k is 4, logits_values has 3"));
  edit(folder / "seed/metadata_worker0.json", "\"top_k\": 4, \"vocab_size\": 17", "\"top_k\": 3, \"vocab_size\": 4");
  CHECK_THAT(refused(seed_documents(5), SeedOrder::interleaved), contains("vocabulary") || contains("outside"));
  CHECK_THAT(refusal([&] { import_seed_cache(folder.path(), SeedOrder::contiguous, seed_documents(5), folder / "o"); }),
             contains("holds neither teacher_logits.h5 nor teacher_logits_worker0.h5"));
}

#endif
