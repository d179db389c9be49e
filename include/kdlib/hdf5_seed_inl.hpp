// SPDX-License-Identifier: Apache-2.0
// Bodies of hdf5.hpp: the files of MoE_Factorize_Compress, read a sample at a time.
#ifndef KDLIB_HDF5_SEED_INL_HPP
#define KDLIB_HDF5_SEED_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "kdlib/hdf5.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/teacher/cache_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One worker's file: logits_values f16 or f32 [N, L, K], logits_indices i32 [N, L, K], seq_lengths i32 [N].
class SeedFile {
 public:
  explicit SeedFile(std::string path)
      : path_(std::move(path)),
        file_(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, path_, "the file"),
        values_(H5Dopen2(file_, "logits_values", H5P_DEFAULT), H5Dclose, path_, "logits_values"),
        indices_(H5Dopen2(file_, "logits_indices", H5P_DEFAULT), H5Dclose, path_, "logits_indices") {
    const std::vector<hsize_t> shape = extents(values_, 3, "logits_values");
    require<FormatError>(extents(indices_, 3, "logits_indices") == shape, "[hdf5] ", path_,
                         ": logits_indices has another shape than logits_values");
    samples = static_cast<std::int64_t>(shape[0]);
    longest = static_cast<std::int64_t>(shape[1]);
    top_k = static_cast<std::int64_t>(shape[2]);
    const Hdf5Object lengths(H5Dopen2(file_, "seq_lengths", H5P_DEFAULT), H5Dclose, path_, "seq_lengths");
    require<FormatError>(extents(lengths, 1, "seq_lengths")[0] == shape[0], "[hdf5] ", path_, ": seq_lengths has ",
                         extents(lengths, 1, "seq_lengths")[0], " entries, logits_values ", shape[0], " samples");
    seq_lengths.resize(static_cast<std::size_t>(samples));
    require<FormatError>(
        samples == 0 || H5Dread(lengths, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, seq_lengths.data()) >= 0,
        "[hdf5] ", path_, ": seq_lengths cannot be read");
  }

  /// values and ids [length, K] of one sample.
  void read(std::int64_t sample, std::int64_t length, std::vector<float>& values,
            std::vector<std::int32_t>& ids) const {
    values.resize(static_cast<std::size_t>(length * top_k));
    ids.resize(values.size());
    slab(values_, H5T_NATIVE_FLOAT, sample, length, values.data(), "logits_values");
    slab(indices_, H5T_NATIVE_INT32, sample, length, ids.data(), "logits_indices");
  }
  const std::string& path() const { return path_; }

  std::int64_t samples = 0, longest = 0, top_k = 0;
  std::vector<std::int32_t> seq_lengths;

 private:
  std::vector<hsize_t> extents(hid_t dataset, int rank, const char* name) const {
    const Hdf5Object space(H5Dget_space(dataset), H5Sclose, path_, name);
    require<FormatError>(H5Sget_simple_extent_ndims(space) == rank, "[hdf5] ", path_, ": ", name, " has ",
                         H5Sget_simple_extent_ndims(space), " axes, ", rank, " are needed");
    std::vector<hsize_t> out(static_cast<std::size_t>(rank));
    H5Sget_simple_extent_dims(space, out.data(), nullptr);
    return out;
  }
  void slab(hid_t dataset, hid_t type, std::int64_t sample, std::int64_t length, void* out, const char* name) const {
    const Hdf5Object space(H5Dget_space(dataset), H5Sclose, path_, name);
    const hsize_t start[3] = {static_cast<hsize_t>(sample), 0, 0},
                  count[3] = {1, static_cast<hsize_t>(length), static_cast<hsize_t>(top_k)};
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nullptr, count, nullptr);
    const Hdf5Object memory(H5Screate_simple(3, count, nullptr), H5Sclose, path_, name);
    require<FormatError>(H5Dread(dataset, type, memory, space, H5P_DEFAULT, out) >= 0, "[hdf5] ", path_, ": ", name,
                         " of sample ", sample, " cannot be read: the file is damaged");
  }

  std::string path_;
  Hdf5Object file_, values_, indices_;
};

/// The folder's files in the order of their workers.
inline std::vector<std::unique_ptr<SeedFile>> open_seed_files(const std::string& folder) {
  std::vector<std::unique_ptr<SeedFile>> files;
  const std::string alone = join_path(folder, "teacher_logits.h5");
  if (path_exists(alone)) files.push_back(std::make_unique<SeedFile>(alone));
  for (int k = 0; files.empty() || k > 0; ++k) {
    const std::string path = join_path(folder, concat("teacher_logits_worker", k, ".h5"));
    if (!path_exists(path)) break;
    files.push_back(std::make_unique<SeedFile>(path));
  }
  require<IoError>(path_exists(folder), "[hdf5] ", folder, " is not there: give a folder with teacher_logits.h5");
  require<IoError>(!files.empty(), "[hdf5] ", folder, " holds neither teacher_logits.h5 nor teacher_logits_worker0.h5");
  return files;
}

/// The vocabulary that metadata.json (or metadata_worker0.json) names; its top_k must be the files'.
inline std::int64_t seed_vocabulary(const std::string& folder, std::int64_t top_k) {
  std::string path = join_path(folder, "metadata.json");
  if (!path_exists(path)) path = join_path(folder, "metadata_worker0.json");
  const Json json = Json::parse_file(path);
  require<FormatError>(json.at("top_k").as_int() == top_k, "[hdf5] ", path, ": top_k is ", json.at("top_k").as_int(),
                       ", logits_values has ", top_k);
  const std::int64_t vocabulary = json.at("vocab_size").as_int();
  require<FormatError>(vocabulary > 0, "[hdf5] ", path, ": vocab_size is ", vocabulary);
  return vocabulary;
}

/// The file and row of sample n of `total`.
inline std::pair<std::size_t, std::int64_t> seed_place(std::int64_t n, std::int64_t total, std::int64_t workers,
                                                       SeedOrder order) {
  if (order == SeedOrder::interleaved) return {static_cast<std::size_t>(n % workers), n / workers};
  const std::int64_t each = total / workers, k = each == 0 ? workers - 1 : std::min(n / each, workers - 1);
  return {static_cast<std::size_t>(k), n - k * each};
}

/// Appends the columns of one row from K logits that do not rise: log-probabilities over the K, tails of mass 0.
inline void append_seed_row(std::span<const float> logits, std::span<const std::int32_t> ids, std::int32_t label,
                            const std::vector<double>& temperatures, const std::string& place, std::int64_t vocabulary,
                            std::vector<std::vector<std::byte>>& columns) {
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    require<FormatError>(std::isfinite(logits[i]) && (i == 0 || logits[i] <= logits[i - 1]), place,
                         ": logits_values are not finite and falling");
    require<FormatError>(ids[i] >= 0 && ids[i] < vocabulary, place, ": logits_indices has ", ids[i],
                         ", the vocabulary has ", vocabulary);
    sum += std::exp(static_cast<double>(logits[i]) - static_cast<double>(logits[0]));
  }
  const double norm = static_cast<double>(logits[0]) + std::log(sum);
  std::vector<float> log_probs, log_norms;
  float of_label = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    log_probs.push_back(static_cast<float>(static_cast<double>(logits[i]) - norm));
    if (ids[i] == label) of_label = log_probs.back();
  }
  for (const double t : temperatures) {
    double total = 0;
    for (const float lp : log_probs) total += std::exp(static_cast<double>(lp) / t);
    log_norms.push_back(static_cast<float>(std::log(total)));
  }
  const std::vector<float> tails(temperatures.size(), -std::numeric_limits<float>::infinity());
  append_values<float>(columns[0], log_probs.data(), static_cast<std::int64_t>(log_probs.size()));
  append_values<std::int32_t>(columns[1], ids.data(), static_cast<std::int64_t>(ids.size()));
  append_values<float>(columns[2], log_norms.data(), static_cast<std::int64_t>(log_norms.size()));
  append_values<float>(columns[3], tails.data(), static_cast<std::int64_t>(tails.size()));
  append_values<float>(columns[4], &of_label, 1);
}

/// The whole of what the files hold, with the samples' places.
struct SeedCache {
  std::vector<std::unique_ptr<SeedFile>> files;
  SeedOrder order;
  std::int64_t total = 0;

  /// Columns of one document's rows.
  void append(const TokenBatch& documents, std::int64_t n, std::int64_t vocabulary,
              const std::vector<double>& temperatures, std::vector<std::vector<std::byte>>& columns) const {
    const auto [k, row] = seed_place(n, total, static_cast<std::int64_t>(files.size()), order);
    const SeedFile& file = *files[k];
    const std::string place = concat("[hdf5] ", file.path(), ": sample ", row, " (text ", n + 1, ")");
    require<FormatError>(row < file.samples, place, " is not there: the file has ", file.samples,
                         "; is --seed-order right?");
    const std::int64_t length = documents.length(n), stored = file.seq_lengths[static_cast<std::size_t>(row)];
    require<FormatError>(stored == length && length <= file.longest, place, ": seq_lengths is ", stored,
                         ", the text has ", length, " tokens; is --seed-order right, and the text the same?");
    std::vector<float> values;
    std::vector<std::int32_t> ids;
    file.read(row, length, values, ids);
    const TokenBatch one = documents.document(n);
    const TokenBatch::Rows rows = one.rows();
    const auto width = static_cast<std::size_t>(file.top_k);
    for (std::size_t r = 0; r < rows.token.size(); ++r) {
      const std::size_t at = static_cast<std::size_t>(rows.token[r]) * width;
      append_seed_row(std::span<const float>(values).subspan(at, width),
                      std::span<const std::int32_t>(ids).subspan(at, width), rows.label[r], temperatures,
                      concat(place, ", token ", rows.token[r]), vocabulary, columns);
    }
  }
};

}  // namespace detail

inline CacheMeta import_seed_cache(const std::string& folder, SeedOrder order, const TokenBatch& documents,
                                   const std::string& out, CacheFacts facts, const std::vector<double>& temperatures,
                                   std::int64_t segment) {
  detail::be_silent();
  detail::SeedCache cache{detail::open_seed_files(folder), order, 0};
  const std::int64_t top_k = cache.files.front()->top_k;
  for (const auto& file : cache.files) {
    require<FormatError>(file->top_k == top_k, "[hdf5] ", file->path(), ": logits_values has ", file->top_k,
                         " tokens a row, ", cache.files.front()->path(), " has ", top_k);
    cache.total += file->samples;
  }
  require<InputError>(cache.total == documents.documents(), "[hdf5] ", folder, ": ", cache.total,
                      " samples, the text has ", documents.documents(), ": the text that was cached is needed");
  facts.vocabulary = detail::seed_vocabulary(folder, top_k);
  facts.real_vocabulary = 0;
  facts.hidden_size = std::max<std::int64_t>(1, facts.hidden_size);
  const CacheSettings settings{
      .store = CacheStore::f32, .top_k = top_k, .temperatures = temperatures, .segment = segment};
  CacheWriter writer(out, std::move(facts), settings, documents);
  for (const std::int64_t s : writer.open_segments(0)) {
    std::vector<std::vector<std::byte>> columns(cache_columns(writer.meta()).size());
    for (const std::int64_t n : writer.documents_of(0, s))
      cache.append(documents, n, writer.meta().facts.vocabulary, temperatures, columns);
    writer.write_segment(0, s, columns);
  }
  writer.finish();
  return writer.meta();
}

KDLIB_NAMESPACE_END

#endif
