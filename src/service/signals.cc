#include "service/signals.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "common/error.h"

namespace datom::service {

Signals::Signals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGTERM);
  sigaddset(&stops, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stops, nullptr);
  signals_ = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) throw_errno(errno, "signalfd");
  notified_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (notified_ < 0) throw_errno(errno, "eventfd");
}

Signals::~Signals() {
  close(signals_);
  close(notified_);
}

bool Signals::wait() {
  while (true) {
    signalfd_siginfo signal{};
    if (read(signals_, &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) return true;
    std::uint64_t count = 0;
    if (read(notified_, &count, sizeof count) == static_cast<ssize_t>(sizeof count)) return false;
    std::array<pollfd, 2> items = {pollfd{signals_, POLLIN, 0}, pollfd{notified_, POLLIN, 0}};
    poll(items.data(), items.size(), -1);
  }
}

void Signals::notify() {
  const std::uint64_t one = 1;
  (void)!write(notified_, &one, sizeof one);
}

}  // namespace datom::service
