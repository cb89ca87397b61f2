// SIGTERM and SIGINT, and whatever else the main thread waits for.
#pragma once

namespace datom::service {

class Signals {
 public:
  // From now on, in this thread and those it starts, SIGTERM and SIGINT only arrive at wait(), and
  // SIGPIPE never. Make it before any thread.
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Waits for a signal or a notify(). True: a signal.
  bool wait();
  // From any thread.
  void notify();

 private:
  int signals_;
  int notified_;
};

}  // namespace datom::service
