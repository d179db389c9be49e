// SPDX-License-Identifier: Apache-2.0
// SHA-256 of bytes, files and model folders. A run uses these hashes to tell whether the input under a path has
// changed.
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

/// SHA-256 (FIPS 180-4) of bytes that are added in pieces. The digest depends on the bytes alone, not on how they were
/// cut into pieces.
class Sha256 {
 public:
  Sha256& add(const void* data, std::size_t bytes);
  Sha256& add(std::string_view text) { return add(text.data(), text.size()); }

  /// Returns 64 hexadecimal digits for all bytes that were added so far. More bytes may be added afterwards.
  std::string digest() const;

 private:
  void add_block(const unsigned char* block);

  std::array<std::uint32_t, 8> state_{0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                      0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  std::array<unsigned char, 64> pending_{};
  std::uint64_t bytes_ = 0;
};

/// Returns "sha256:<digest>" of all bytes of a regular file, as sha256sum computes it. Throws IoError if the file
/// cannot be read.
std::string file_hash(const std::string& path);

/// Returns file_hash for a file of up to 64 MiB. For a larger file returns "sha256-sample:<digest>" over its size in
/// bytes, its first MiB (the header of a weight file), 16384 blocks of 4 KiB at equal distances and its last block. So
/// 65 MiB are read, whatever the size. A training step changes weights everywhere, so other weights are noticed; a
/// change of a few bytes between two blocks is not.
std::string sampled_file_hash(const std::string& path);

/// Returns the hash that a program compares to learn whether an input has changed:
/// - for a file: sampled_file_hash of the file;
/// - for a part of a split GGUF file: "sha256:<digest>" over the sampled_file_hash of all parts;
/// - for a folder: "sha256:<digest>" over the names and hashes, sorted by name, of the files that define a model, an
///   adapter or a data set (.safetensors, .gguf, .json, .jsonl, .jinja, .model, .txt). The subfolders base, adapter,
///   model and packed, in which a run keeps its model, are included.
/// White space in a seed file (io/seed_file.hpp) does not count. Throws IoError if nothing is there or nothing can be
/// read.
std::string content_hash(const std::string& path);

/// True if two models (folders, GGUF files, parts of split GGUF files) have the same weights: equally many weight files
/// which, in the order of their names, have the same sizes and the same sampled_file_hash. File names, configuration,
/// tokenizer and other files do not count. If the sizes differ, no file is read. A seed file (io/seed_file.hpp) counts
/// as a weight file and is compared by its seed, not by its bytes. False for folders without model.safetensors, an
/// index of shards or a seed file. Throws IoError if nothing is there.
bool same_weights(const std::string& a, const std::string& b);

namespace detail {
/// Returns the files from which the weights of a model are read, sorted by name. Empty for a folder that has neither
/// model.safetensors nor an index of shards nor a seed file.
std::vector<std::string> weight_files(const std::string& path);

/// Returns hash(path), computed at most once a process for an unchanged file: the earlier result is used if device,
/// inode, size and both times of the file are the same as then. A file that changed less than three seconds before it
/// was hashed is hashed again next time, since a second change within one tick of the file system's clock would leave
/// the times equal. `now` is in seconds since 1970.
std::string remembered_hash(std::string (*hash)(const std::string&), const std::string& path, std::int64_t now);
/// The same with the current time as `now`.
std::string remembered_hash(std::string (*hash)(const std::string&), const std::string& path);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/content_hash_inl.hpp"
#endif

#endif
