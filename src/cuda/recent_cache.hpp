// SPDX-License-Identifier: Apache-2.0
// What was made for a shape and is asked for again.
#ifndef KDLIB_SRC_CUDA_RECENT_CACHE_HPP
#define KDLIB_SRC_CUDA_RECENT_CACHE_HPP

#include <cstddef>
#include <list>
#include <map>
#include <utility>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The entries that were asked for last, `most` of them: training without padding meets ever new numbers of tokens.
template <class Key, class Entry>
class RecentCache {
 public:
  explicit RecentCache(std::size_t most) : most_(most) {}

  /// nullptr for a key that is not there (any more).
  Entry* find(const Key& key) {
    const auto at = by_key_.find(key);
    if (at == by_key_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, at->second);
    return &entries_.front().second;
  }
  Entry& add(const Key& key, Entry entry) {
    if (entries_.size() >= most_) {
      by_key_.erase(entries_.back().first);
      entries_.pop_back();
    }
    entries_.emplace_front(key, std::move(entry));
    by_key_[key] = entries_.begin();
    return entries_.front().second;
  }
  std::size_t size() const { return entries_.size(); }

 private:
  using Entries = std::list<std::pair<Key, Entry>>;
  std::size_t most_;
  Entries entries_;  // the one that was asked for last in front
  std::map<Key, typename Entries::iterator> by_key_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
