// SPDX-License-Identifier: Apache-2.0
// Bodies of cached.hpp.
#ifndef KDLIB_TEACHER_CACHED_INL_HPP
#define KDLIB_TEACHER_CACHED_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/teacher/cache_rows.hpp"
#include "kdlib/teacher/cached.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What a CachedTeacher reads of a cache.
struct CachedChoice {
  double temperature = 1;
  std::int64_t place = 0;  // of the temperature in the cache's list
  std::int64_t top_k = 0;
  std::int64_t real_vocabulary = 0;  // 0: all
};
/// ConfigError as CachedTeacher's constructor.
CachedChoice choose_cached(const TopKCache& cache, const CachedTeacherSettings& settings);

/// Reads rows of a top-k cache one after the other and checks each.
class TopKReader {
 public:
  TopKReader(const TeacherCache& cache, std::int64_t temperature, std::int64_t top_k, std::int64_t real_vocabulary);

  /// log p at the temperature of the K tokens that are used, their ids, and the log of the mass of all others. A token
  /// that the student lacks is absent (-1), and the others share its mass.
  template <class T>
  void read(const TeacherCache::Place& at, std::int32_t* ids, T* log_probs, T* log_tail) {
    if (at.segment != segment_) open(at.segment);
    float norm = 0, tail = 0;
    require(at, read_values(*values_info_, at.row * all_, all_, values_.data()), "values holds NaN or an infinity");
    require(at, read_values(*norm_info_, at.row * temperatures_ + place_, 1, &norm),
            "log_norm holds NaN or an infinity");
    read_values(*tail_info_, at.row * temperatures_ + place_, 1, &tail);  // -infinity: no mass
    require(at, tail <= 0, "tail_logmass is above 0 or NaN");
    std::memcpy(all_ids_.data(), ids_info_->data.data() + static_cast<std::size_t>(at.row * all_) * 4,
                all_ids_.size() * 4);
    check_ids(at);
    double mass = std::exp(static_cast<double>(tail)), rest = mass, lost = 0;
    for (std::size_t i = 0; i < values_.size(); ++i) {
      require(at, i == 0 || values_[i] <= values_[i - 1], "values do not fall");
      const double p = values_[i] / temperature_ - norm;
      const bool known = all_ids_[i] < ids_, used = static_cast<std::int64_t>(i) < used_;
      mass += std::exp(p);
      if (!known) lost += std::exp(p);
      else if (!used) rest += std::exp(p);
      if (used) log_probs[i] = static_cast<T>(p), ids[i] = known ? all_ids_[i] : -1;
    }
    require(at, std::abs(mass - 1) <= slack_, "the masses at temperature ", temperature_, " add up to ", mass);
    *log_tail = used_ == all_ ? static_cast<T>(tail)
                : rest > 0    ? static_cast<T>(std::log(rest))
                              : static_cast<T>(-std::numeric_limits<double>::infinity());
    if (lost > 0) share_mass(at, mass, lost, log_probs, log_tail);
  }

 private:
  /// Divides by what is left without the tokens that the student lacks.
  template <class T>
  void share_mass(const TeacherCache::Place& at, double mass, double lost, T* log_probs, T* log_tail) const {
    require(at, lost < mass - slack_, "tokens that the student lacks have ", lost, " of the mass");
    const double left = std::log1p(-lost / mass);
    for (std::int64_t i = 0; i < used_; ++i) log_probs[i] = static_cast<T>(static_cast<double>(log_probs[i]) - left);
    *log_tail = static_cast<T>(std::min(0.0, static_cast<double>(*log_tail) - left));
  }
  void open(std::int32_t segment);
  void check_ids(const TeacherCache::Place& at);
  template <class... Parts>
  void require(const TeacherCache::Place& at, bool condition, const Parts&... what) const {
    if (!condition) fail<FormatError>("[teacher cache] ", cache_.place_text(at), ": ", what...);
  }

  const TeacherCache& cache_;
  double temperature_;
  std::int64_t place_, all_, temperatures_, used_, ids_;
  double slack_;
  std::vector<float> values_;
  std::vector<std::int32_t> all_ids_, sorted_;
  std::int32_t segment_ = -1;
  const TensorInfo *values_info_ = nullptr, *ids_info_ = nullptr, *norm_info_ = nullptr, *tail_info_ = nullptr;
};

}  // namespace detail

template <class D, class T>
CachedTeacher<D, T>::CachedTeacher(const TopKCache& cache, CachedTeacherSettings settings) : cache_(&cache) {
  const detail::CachedChoice choice = detail::choose_cached(cache, settings);
  temperature_ = choice.temperature;
  place_ = choice.place;
  top_k_ = choice.top_k;
  real_vocabulary_ = choice.real_vocabulary;
}

template <class D, class T>
CachedTeacher<D, T>::CachedTeacher(const CachedTeacher& other)
    : cache_(other.cache_),
      temperature_(other.temperature_),
      place_(other.place_),
      top_k_(other.top_k_),
      real_vocabulary_(other.real_vocabulary_) {}

template <class D, class T>
CachedTeacher<D, T>& CachedTeacher<D, T>::operator=(const CachedTeacher& other) {
  return *this = CachedTeacher(other);
}

template <class D, class T>
void CachedTeacher<D, T>::prepare(const TokenBatch& batch) {
  const std::vector<TeacherCache::Place> places = cache_->files().find_rows(batch);
  rows_ = static_cast<std::int64_t>(places.size());
  if (rows_ == 0) return;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows_ * top_k_));
  using L = scalar_type;
  std::vector<L> log_probs(ids.size()), log_tail(places.size());
  detail::TopKReader reader(cache_->files(), place_, top_k_, real_vocabulary_);
  for (std::size_t r = 0; r < places.size(); ++r) {
    const std::size_t at = r * static_cast<std::size_t>(top_k_);
    reader.read(places[r], ids.data() + at, log_probs.data() + at, &log_tail[r]);
  }
  if (!ids_ || ids_[0] < rows_) {
    ids_ = Tensor<std::int32_t, D>(Shape{rows_, top_k_});
    log_probs_ = Tensor<L, D>(Shape{rows_, top_k_});
    log_tail_ = Tensor<L, D>(Shape{rows_});
  }
  Memory<D>::from_host(ids_.data(), ids.data(), ids.size() * sizeof(std::int32_t));
  Memory<D>::from_host(log_probs_.data(), log_probs.data(), log_probs.size() * sizeof(L));
  Memory<D>::from_host(log_tail_.data(), log_tail.data(), log_tail.size() * sizeof(L));
}

template <class D, class T>
typename CachedTeacher<D, T>::targets_type CachedTeacher<D, T>::targets(std::int64_t begin, std::int64_t count) const {
  kdlib::require<ShapeError>(begin >= 0 && count >= 0 && begin + count <= rows_, "[CachedTeacher] rows ", begin, " to ",
                             begin + count, " of ", rows_,
                             ": prepare(batch) comes first, targets stay within its rows");
  const auto temperature = static_cast<float>(temperature_);
  if (!ids_)
    return {View<const std::int32_t, D>(nullptr, Shape{0, top_k_}),
            View<const scalar_type, D>(nullptr, Shape{0, top_k_}), View<const scalar_type, D>(nullptr, Shape{0}),
            temperature};
  return {std::as_const(ids_).rows(begin, count), std::as_const(log_probs_).rows(begin, count),
          std::as_const(log_tail_).rows(begin, count), temperature};
}

template <class D, class T>
SettingsList CachedTeacher<D, T>::describe() const {
  SettingsList list{{"teacher", "cached top-k"},
                    {"teacher.vocabulary", setting_text(vocab_size())},
                    {"teacher.top_k", setting_text(top_k_)},
                    {"teacher.temperature", setting_text(temperature_)},
                    {"teacher.cache", cache_->files().meta().run_hash()}};
  if (real_vocabulary_ > 0) list.emplace_back("teacher.real_vocabulary", setting_text(real_vocabulary_));
  return list;
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/top_k_reader_inl.hpp"
#endif

#endif
