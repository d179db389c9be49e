// SPDX-License-Identifier: Apache-2.0
// The allocator of the CUDA backend: tensors come and go at every kernel, and cudaMalloc and cudaFree would wait for
// the device each time. Knows nothing of CUDA, so it is tested without a device.
#ifndef KDLIB_SRC_CUDA_ARENA_HPP
#define KDLIB_SRC_CUDA_ARENA_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Hands out parts of large pieces: the smallest hole that holds a request, in steps of 512 bytes; what is given back
/// joins its free neighbours. A block that is given back may be handed out at once, before the work that used it has
/// run: all work of one stream keeps its order, so users of another stream must wait by events. One thread at a time.
class Arena {
 public:
  static constexpr std::size_t step = 512;
  using Take = std::function<void*(std::size_t)>;  // a new piece, or nullptr: there is no more
  using Give = std::function<void(void*)>;

  Arena(Take take, Give give, std::size_t piece_bytes = std::size_t{256} << 20)
      : take_(std::move(take)), give_(std::move(give)), piece_bytes_(piece_bytes) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// nullptr where no hole and no new piece holds `bytes`.
  void* allocate(std::size_t bytes) {
    const std::size_t size = (bytes + step - 1) / step * step;
    auto hole = holes_.lower_bound({size, 0});
    if (hole == holes_.end() && grow(size)) hole = holes_.lower_bound({size, 0});
    if (hole == holes_.end()) return nullptr;
    const auto [whole, at] = *hole;
    holes_.erase(hole);
    Block& block = blocks_.at(at);
    block.free = false;
    if (whole > size) {  // the rest stays a hole
      blocks_.emplace(at + size, Block{whole - size, true, block.piece});
      holes_.insert({whole - size, at + size});
      block.size = size;
    }
    used_ += size;
    if (used_ > peak_) peak_ = used_;
    return reinterpret_cast<void*>(at);
  }

  /// Error for an address that allocate() did not give.
  void release(void* p) {
    auto at = blocks_.find(reinterpret_cast<std::uintptr_t>(p));
    require<Error>(at != blocks_.end() && !at->second.free, "[cuda] memory is given back that is not in use");
    at->second.free = true;
    used_ -= at->second.size;
    if (const auto next = std::next(at); joins(at, next)) {
      holes_.erase({next->second.size, next->first});
      at->second.size += next->second.size;
      blocks_.erase(next);
    }
    if (at != blocks_.begin())
      if (const auto before = std::prev(at); joins(before, at)) {
        holes_.erase({before->second.size, before->first});
        before->second.size += at->second.size;
        blocks_.erase(at);
        at = before;
      }
    holes_.insert({at->second.size, at->first});
  }

  /// Gives pieces back of which nothing is in use; the device must have finished with them. Says how many bytes.
  std::size_t trim() {
    std::size_t bytes = 0;
    for (auto b = blocks_.begin(); b != blocks_.end();) {
      const auto piece = pieces_.find(b->second.piece);
      if (!b->second.free || b->second.size != piece->second) {
        ++b;
        continue;
      }
      bytes += piece->second;
      holes_.erase({b->second.size, b->first});
      give_(reinterpret_cast<void*>(piece->first));
      pieces_.erase(piece);
      b = blocks_.erase(b);
    }
    reserved_ -= bytes;
    return bytes;
  }

  std::size_t used() const { return used_; }          // bytes, in whole steps
  std::size_t peak() const { return peak_; }          // the most that was in use
  std::size_t reserved() const { return reserved_; }  // of all pieces
  std::size_t reserved_peak() const { return reserved_peak_; }
  /// The peaks are what is there now.
  void reset_peak() { peak_ = used_, reserved_peak_ = reserved_; }

 private:
  struct Block {
    std::size_t size;
    bool free;
    std::uintptr_t piece;  // where its piece begins: neighbours of two pieces are not joined
  };
  using Blocks = std::map<std::uintptr_t, Block>;

  bool joins(Blocks::const_iterator a, Blocks::const_iterator b) const {
    return b != blocks_.end() && a->second.free && b->second.free && a->second.piece == b->second.piece;
  }
  bool grow(std::size_t size) {
    std::size_t bytes = size > piece_bytes_ ? size : piece_bytes_;
    void* p = take_(bytes);
    if (p == nullptr && bytes > size) p = take_(bytes = size);  // the last bytes of the device
    if (p == nullptr) return false;
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    pieces_.emplace(at, bytes);
    blocks_.emplace(at, Block{bytes, true, at});
    holes_.insert({bytes, at});
    reserved_ += bytes;
    if (reserved_ > reserved_peak_) reserved_peak_ = reserved_;
    return true;
  }

  Take take_;
  Give give_;
  std::size_t piece_bytes_, used_ = 0, peak_ = 0, reserved_ = 0, reserved_peak_ = 0;
  Blocks blocks_;                                           // by address
  std::set<std::pair<std::size_t, std::uintptr_t>> holes_;  // free blocks by size, then address: the same every run
  std::map<std::uintptr_t, std::size_t> pieces_;
};

inline CountedMemory counted(const Arena& a) {
  return {static_cast<std::int64_t>(a.used()), static_cast<std::int64_t>(a.peak()),
          static_cast<std::int64_t>(a.reserved_peak())};
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
