// A second thread that waits for one piece of work at a time, so that actor and critic can be learned side by side.
#pragma once
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

class Partner {
  struct Desk {  // outlives the partner in a process that was forked away from it
    std::mutex mutex;
    std::condition_variable news;
    std::function<void()> work;
    std::atomic<int> state{0};  // 0 idle, 1 there is work, 2 done, 3 go home
  };
  std::shared_ptr<Desk> desk;
  std::thread thread;
  pid_t process = 0;

  // Looks for a moment, which is shorter than being woken, and then sleeps: a busy core is left alone.
  static int changed(Desk& d, int from) {
    for (int i = 0; i < 4000; i++) {
      int now = d.state.load(std::memory_order_acquire);
      if (now != from) return now;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    std::unique_lock<std::mutex> lock(d.mutex);
    d.news.wait(lock, [&] { return d.state.load(std::memory_order_acquire) != from; });
    return d.state.load(std::memory_order_acquire);
  }

  static void tell(Desk& d, int state) {
    { std::lock_guard<std::mutex> lock(d.mutex); d.state.store(state, std::memory_order_release); }
    d.news.notify_all();
  }

  static void serve(std::shared_ptr<Desk> d) {
    for (int now = 0;;) {
      now = changed(*d, now == 0 ? 0 : 2);
      if (now == 3) return;
      if (now == 1) { d->work(); tell(*d, 2); now = 2; }
    }
  }

  void start() {
    if (process == getpid()) return;
    if (thread.joinable()) thread.detach();  // it lives in the process that this one was forked from
    desk = std::make_shared<Desk>();
    thread = std::thread(serve, desk);
    process = getpid();
  }

 public:
  ~Partner() {
    if (!thread.joinable()) return;
    if (process != getpid()) { thread.detach(); return; }
    tell(*desk, 3);
    thread.join();
  }

  // Both, at once; on this thread one after the other where no second one can be had.
  void run(std::function<void()> theirs, const std::function<void()>& mine) {
    try { start(); } catch (const std::system_error&) { theirs(); mine(); return; }
    desk->work = std::move(theirs);
    tell(*desk, 1);
    mine();
    while (changed(*desk, 1) != 2) {}
  }
};
