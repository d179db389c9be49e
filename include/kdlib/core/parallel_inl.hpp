// SPDX-License-Identifier: Apache-2.0
// The pool behind parallel.hpp: sleeping workers, one job at a time, nested regions run in place.
#ifndef KDLIB_CORE_PARALLEL_INL_HPP
#define KDLIB_CORE_PARALLEL_INL_HPP

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class ThreadPool {
 public:
  static ThreadPool& instance() {
    static ThreadPool pool;
    return pool;
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int count() const { return count_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    const std::lock_guard<std::mutex> job(job_mutex_);
    stop_workers();
    count_.store(threads);
  }

  void run(int parts, void (*body)(void*, int), void* context) {
    if (parts <= 1 || inside() ||
        !job_mutex_.try_lock()) {  // nested, or another thread uses the pool: run in place, same partition
      for (int part = 0; part < parts; ++part) body(context, part);
      return;
    }
    const std::lock_guard<std::mutex> job(job_mutex_, std::adopt_lock);
    start_workers(parts - 1);
    errors_.assign(static_cast<std::size_t>(parts), nullptr);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      body_ = body;
      context_ = context;
      stop_flag_ = stop_flag_of_thread();
      parts_ = parts;
      pending_ = parts - 1;
      ++generation_;
      signal_.store(generation_, std::memory_order_release);
    }
    wake_.notify_all();
    execute(0);
    wait_until_done();
    for (const std::exception_ptr& error : errors_)
      if (error) std::rethrow_exception(error);
  }

 private:
  ThreadPool() : count_(default_count()) {}
  ~ThreadPool() { stop_workers(); }

  static bool& inside() {
    thread_local bool flag = false;
    return flag;
  }

  static int default_count() {
    if (const char* text = std::getenv("KDLIB_NUM_THREADS")) {
      const int n = std::atoi(text);
      if (n >= 1) return n;
    }
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    const unsigned n = std::thread::hardware_concurrency();
    return n > 0 ? static_cast<int>(n) : 1;
  }

  void execute(int part) {
    const StopScope stop(stop_flag_);  // a worker looks at the flag of the thread that it works for
    inside() = true;
    try {
      body_(context_, part);
    } catch (...) {
      errors_[static_cast<std::size_t>(part)] = std::current_exception();
    }
    inside() = false;
  }

  void start_workers(int needed) {
    while (static_cast<int>(workers_.size()) < needed) {
      const int index = static_cast<int>(workers_.size()) + 1;
      const std::uint64_t seen = generation_;
      try {
        workers_.emplace_back([this, index, seen] { work(index, seen); });
      } catch (const std::system_error&) {
        fail<Error>("[threads] cannot start ", needed + 1, " threads, ", workers_.size() + 1,
                    " run: limit of processes or memory; use a smaller --threads (set_thread_count)");
      }
    }
  }

  void stop_workers() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      signal_.store(~std::uint64_t{0}, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stop_ = false;
    signal_.store(generation_, std::memory_order_release);
  }

  void work(int index, std::uint64_t seen) {
    for (;;) {
      for (int spin = 0; spin < spin_limit && signal_.load(std::memory_order_acquire) == seen; ++spin) relax();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
        if (stop_) return;
        seen = generation_;
        if (index >= parts_) continue;
      }
      execute(index);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        const std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  void wait_until_done() {
    for (int spin = 0; spin < spin_limit && pending_.load(std::memory_order_acquire) != 0; ++spin) relax();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return pending_.load(std::memory_order_acquire) == 0; });
  }

  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }

  static constexpr int spin_limit = 4000;  // about 50-100 us: kernels follow each other closely while a model runs

  std::atomic<int> count_;
  std::mutex job_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  std::vector<std::exception_ptr> errors_;
  void (*body_)(void*, int) = nullptr;
  void* context_ = nullptr;
  const std::atomic<bool>* stop_flag_ = nullptr;
  int parts_ = 0;
  std::atomic<int> pending_{0};
  std::uint64_t generation_ = 0;
  std::atomic<std::uint64_t> signal_{0};
  bool stop_ = false;
};

KDLIB_FUNC void run_parts(int parts, void (*body)(void*, int), void* context) {
  ThreadPool::instance().run(parts, body, context);
}

}  // namespace detail

KDLIB_FUNC int thread_count() { return detail::ThreadPool::instance().count(); }

KDLIB_FUNC void set_thread_count(int threads) {
  require<ConfigError>(threads >= 1, "[set_thread_count] got ", threads, "; it must be at least 1");
  detail::ThreadPool::instance().resize(threads);
}

KDLIB_NAMESPACE_END

#endif
