// SPDX-License-Identifier: Apache-2.0
// Bodies of io/content_hash.hpp.
#ifndef KDLIB_IO_CONTENT_HASH_INL_HPP
#define KDLIB_IO_CONTENT_HASH_INL_HPP

#include <algorithm>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/gguf_split.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/seed_file.hpp"
#include "kdlib/io/system_inl.hpp"
#if defined(__x86_64__)
#include "kdlib/io/sha256_x86_inl.hpp"
#endif

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2).
inline constexpr std::uint32_t sha256_constants[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u};

inline constexpr std::uint64_t hashed_whole_bytes = std::uint64_t{64} << 20;  // longer files are sampled
inline constexpr std::uint64_t sampled_blocks = 16384, sampled_block_bytes = 4096,
                               sampled_head_bytes = std::uint64_t{1} << 20;

KDLIB_FUNC std::uint32_t rotated_right(std::uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

/// Reads [offset, offset + bytes) of an open file into the hash.
KDLIB_FUNC void hash_range(Sha256& hash, int fd, std::uint64_t offset, std::uint64_t bytes, const std::string& path) {
  std::vector<char> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, std::uint64_t{1} << 18)));
  while (bytes > 0) {
    const ssize_t got =
        ::pread(fd, buffer.data(), static_cast<std::size_t>(std::min<std::uint64_t>(bytes, buffer.size())),
                static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io("hash", path, errno);
    require<IoError>(got > 0, "[hash] ", path, " was cut while it was read");
    hash.add(buffer.data(), static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

KDLIB_FUNC bool decides_content(const std::string& name) {
  if (name.front() == '.') return false;
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos) return false;
  const std::string_view ending = std::string_view(name).substr(dot);
  for (const char* known : {".safetensors", ".gguf", ".json", ".jsonl", ".jinja", ".model", ".txt"})
    if (ending == known) return true;
  return false;
}
}  // namespace detail

namespace detail {
/// Adds a block of 64 bytes to a state, by the text of the standard.
KDLIB_FUNC void add_sha256_block(std::array<std::uint32_t, 8>& state, const unsigned char* block) {
  std::uint32_t w[64];
  for (int i = 0; i < 16; ++i)
    w[i] = std::uint32_t{block[4 * i]} << 24 | std::uint32_t{block[4 * i + 1]} << 16 |
           std::uint32_t{block[4 * i + 2]} << 8 | std::uint32_t{block[4 * i + 3]};
  for (int i = 16; i < 64; ++i) {
    const std::uint32_t s0 = rotated_right(w[i - 15], 7) ^ rotated_right(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const std::uint32_t s1 = rotated_right(w[i - 2], 17) ^ rotated_right(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (int i = 0; i < 64; ++i) {
    const std::uint32_t s1 = rotated_right(e, 6) ^ rotated_right(e, 11) ^ rotated_right(e, 25);
    const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha256_constants[i] + w[i];
    const std::uint32_t s0 = rotated_right(a, 2) ^ rotated_right(a, 13) ^ rotated_right(a, 22);
    const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const std::uint32_t sums[8] = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state[i] += sums[i];
}
}  // namespace detail

KDLIB_FUNC void Sha256::add_block(const unsigned char* block) {
#if defined(__x86_64__)
  static const bool instructions = detail::cpu_hashes_sha256();
  if (instructions) return detail::add_sha256_instructions(state_.data(), detail::sha256_constants, block);
#endif
  detail::add_sha256_block(state_, block);
}

KDLIB_FUNC Sha256& Sha256::add(const void* data, std::size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(data);
  std::size_t held = static_cast<std::size_t>(bytes_ % 64);
  bytes_ += bytes;
  while (bytes > 0) {
    if (held == 0 && bytes >= 64) {
      add_block(at);
      at += 64;
      bytes -= 64;
      continue;
    }
    const std::size_t part = std::min(bytes, 64 - held);
    std::memcpy(pending_.data() + held, at, part);
    at += part;
    bytes -= part;
    held += part;
    if (held == 64) add_block(pending_.data()), held = 0;
  }
  return *this;
}

KDLIB_FUNC std::string Sha256::digest() const {
  Sha256 copy = *this;
  const std::uint64_t bits = bytes_ * 8;
  const unsigned char one = 0x80, zeros[64] = {};
  copy.add(&one, 1);
  copy.add(zeros, static_cast<std::size_t>((120 - copy.bytes_ % 64) % 64));
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
  copy.add(length, sizeof length);
  std::string out;
  for (const std::uint32_t word : copy.state_)
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[(word >> shift) & 15u];
  return out;
}

KDLIB_FUNC std::string file_hash(const std::string& path) {
  std::size_t bytes = 0;
  const detail::FileDescriptor fd = detail::open_regular_file("hash", path, bytes);
  Sha256 hash;
  detail::hash_range(hash, fd.get(), 0, bytes, path);
  return "sha256:" + hash.digest();
}

KDLIB_FUNC std::string sampled_file_hash(const std::string& path) {
  std::size_t size = 0;
  const detail::FileDescriptor fd = detail::open_regular_file("hash", path, size);
  if (size <= detail::hashed_whole_bytes) return file_hash(path);
  const std::uint64_t bytes = size, last = bytes - detail::sampled_block_bytes;
  Sha256 hash;
  hash.add(concat(bytes, "\n"));
  detail::hash_range(hash, fd.get(), 0, detail::sampled_head_bytes, path);
  for (std::uint64_t i = 0; i < detail::sampled_blocks; ++i)
    detail::hash_range(hash, fd.get(), std::min(i * (bytes / detail::sampled_blocks), last),
                       detail::sampled_block_bytes, path);
  detail::hash_range(hash, fd.get(), last, detail::sampled_block_bytes, path);
  return "sha256-sample:" + hash.digest();
}

namespace detail {
/// Device, inode, size, times of change of the bytes and of the inode in nanoseconds: what tells that a file is still
/// the one that was hashed.
using FileState = std::array<std::int64_t, 5>;

inline constexpr std::int64_t nanoseconds_per_second = 1'000'000'000;

KDLIB_FUNC FileState state_of_file(const std::string& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) fail_io("hash", path, errno);
  const auto nanoseconds = [](const timespec& t) {
    return std::int64_t{t.tv_sec} * nanoseconds_per_second + std::int64_t{t.tv_nsec};
  };
  return {static_cast<std::int64_t>(s.st_dev), static_cast<std::int64_t>(s.st_ino), std::int64_t{s.st_size},
          nanoseconds(s.st_mtim), nanoseconds(s.st_ctim)};
}

KDLIB_FUNC std::string remembered_hash(std::string (*hash)(const std::string&), const std::string& path,
                                       std::int64_t now) {
  static std::mutex mutex;
  static std::map<std::pair<std::string (*)(const std::string&), FileState>, std::string> known;
  const FileState before = state_of_file(path);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (const auto found = known.find({hash, before}); found != known.end()) return found->second;
  }
  std::string made = hash(path);
  const bool settled = std::max(before[3], before[4]) / nanoseconds_per_second + 3 <= now;
  if (settled && state_of_file(path) == before) {
    const std::lock_guard<std::mutex> lock(mutex);
    known.insert_or_assign({hash, before}, made);
  }
  return made;
}

KDLIB_FUNC std::string remembered_hash(std::string (*hash)(const std::string&), const std::string& path) {
  return remembered_hash(hash, path, static_cast<std::int64_t>(std::time(nullptr)));
}

/// Of a file that stands for weights: that of the text which save_random_model() writes for its seed, so that blanks
/// change nothing. Of any other file, and of one of another form, sampled_file_hash.
KDLIB_FUNC std::string hash_of_model_file(const std::string& path) {
  if (file_name(path) == random_weights_file && is_regular_file(path) && file_size(path) <= 4096) {
    try {
      const Json json = Json::parse_file(path);
      if (json.size() == 1) return "sha256:" + Sha256().add(random_weights_text(json.at("seed").as_uint())).digest();
    } catch (const FormatError&) {
      // what it holds is refused where weights are made of it
    }
  }
  return sampled_file_hash(path);
}

KDLIB_FUNC std::vector<std::string> weight_files(const std::string& path) {
  if (!is_directory(path)) return gguf_part_paths(path);
  const std::string single = join_path(path, "model.safetensors"),
                    index = join_path(path, "model.safetensors.index.json"),
                    seed = join_path(path, random_weights_file);
  if (path_exists(single)) return {single};
  if (path_exists(seed)) return {seed};
  std::vector<std::string> files;
  if (!path_exists(index)) return files;
  for (const auto& [tensor, shard] : Json::parse_file(index).at("weight_map").members())
    files.push_back(join_path(path, shard.as_string()));
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

/// Adds the deciding files of a folder; answers their number.
KDLIB_FUNC std::size_t hash_folder(Sha256& hash, const std::string& path, const std::string& prefix) {
  std::size_t files = 0;
  for (const std::string& name : list_directory(path)) {
    const std::string file = join_path(path, name);
    const bool holds_model = name == "base" || name == "adapter" || name == "model" || name == "packed";
    if (prefix.empty() && holds_model && is_directory(file)) files += hash_folder(hash, file, name + "/");
    if (!decides_content(name) || !is_regular_file(file)) continue;
    hash.add(concat(prefix, name, "\n", remembered_hash(hash_of_model_file, file), "\n"));
    ++files;
  }
  return files;
}
}  // namespace detail

KDLIB_FUNC std::string content_hash(const std::string& path) {
  Sha256 hash;
  if (!is_directory(path)) {
    const std::vector<std::string> parts = gguf_part_paths(path);
    if (parts.size() == 1) return detail::remembered_hash(sampled_file_hash, path);
    for (const std::string& part : parts) hash.add(concat(detail::remembered_hash(sampled_file_hash, part), "\n"));
    return "sha256:" + hash.digest();
  }
  const std::size_t files = detail::hash_folder(hash, path, "");
  require<IoError>(files > 0, "[hash] ", path, " holds no file of a model or of data; check the path");
  return "sha256:" + hash.digest();
}

KDLIB_FUNC bool same_weights(const std::string& a, const std::string& b) {
  const std::vector<std::string> of_a = detail::weight_files(a), of_b = detail::weight_files(b);
  const auto all_equal = [&](auto&& equal) { return std::equal(of_a.begin(), of_a.end(), of_b.begin(), equal); };
  if (of_a.empty() || of_a.size() != of_b.size()) return false;
  const auto is_seed = [](const std::string& file) { return file_name(file) == detail::random_weights_file; };
  if (!all_equal([&](const auto& x, const auto& y) {
        return (is_seed(x) && is_seed(y)) || file_size(x) == file_size(y);  // a seed may be written in several ways
      }))
    return false;
  return all_equal([](const auto& x, const auto& y) {
    return detail::remembered_hash(detail::hash_of_model_file, x) ==
           detail::remembered_hash(detail::hash_of_model_file, y);
  });
}

KDLIB_NAMESPACE_END

#endif
