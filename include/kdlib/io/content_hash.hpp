// SPDX-License-Identifier: Apache-2.0
// SHA-256 of bytes, files and model folders: tells whether an input of a run is still the same under the same path.
#ifndef KDLIB_IO_CONTENT_HASH_HPP
#define KDLIB_IO_CONTENT_HASH_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// SHA-256 (FIPS 180-4), fed in pieces: the digest depends on the bytes alone, not on how they were cut.
class Sha256 {
 public:
  Sha256& add(const void* data, std::size_t bytes);
  Sha256& add(std::string_view text) { return add(text.data(), text.size()); }

  /// 64 hexadecimal digits of all that was added so far; more may be added afterwards.
  std::string digest() const;

 private:
  void add_block(const unsigned char* block);

  std::array<std::uint32_t, 8> state_{0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                      0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  std::array<unsigned char, 64> pending_{};
  std::uint64_t bytes_ = 0;
};

/// "sha256:<digest>" of all bytes of a regular file, as sha256sum computes it. IoError where it cannot be read.
std::string file_hash(const std::string& path);

/// As file_hash for a file of up to 64 MiB. A larger one gives "sha256-sample:<digest>" of its size, its first MiB (the
/// header of a weight file), 16384 blocks of 4 KiB at equal distances and its last block: 65 MiB are read, whatever the
/// size. A training step changes weights everywhere, so that other weights are noticed; a change of single bytes
/// between two blocks is not.
std::string sampled_file_hash(const std::string& path);

/// What a program compares to learn whether an input changed: sampled_file_hash of a file; of a part of a split GGUF
/// file "sha256:<digest>" over that of all its parts; of a folder
/// "sha256:<digest>" over the names and sampled_file_hash of those of its files that decide what a model, an adapter or
/// a data set is
/// (.safetensors, .gguf, .json, .jsonl, .jinja, .model, .txt), sorted by name; of folders below it those that a run's
/// folder has its model in (base, adapter, model, packed). Blanks in the file of a seed do not count. IoError where
/// nothing is there or nothing can be read.
std::string content_hash(const std::string& path);

/// True where two models (folders, GGUF files, parts of split ones) have the same weights: as many files that weights
/// are read from, of the same sizes and with the same sampled_file_hash, in the order of their names. The names do not
/// count, nor do configuration, tokenizer and other files. Files of other sizes are not read; the file of a seed counts
/// as one of weights, by the seed and not by its bytes. False for folders without model.safetensors, an index of shards
/// or a seed. IoError where nothing is there.
bool same_weights(const std::string& a, const std::string& b);

namespace detail {
/// The files that the weights of a model are read from, sorted by name; none where a folder has neither
/// model.safetensors nor an index of shards nor the seed of random weights. IoError where nothing is there.
std::vector<std::string> weight_files(const std::string& path);

/// hash(path), made once a process: the earlier answer where device, inode, size and both times of the file are still
/// those of then. A file that changed within three seconds before it was hashed is hashed again, for a second change in
/// the same tick of the file system's clock leaves the times as they are. `now`: seconds since 1970.
std::string remembered_hash(std::string (*hash)(const std::string&), const std::string& path, std::int64_t now);
std::string remembered_hash(std::string (*hash)(const std::string&), const std::string& path);  // now
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/content_hash_inl.hpp"
#endif

#endif
