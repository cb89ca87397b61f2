// The load: NBD clients as a volume server has them, that read and write a few blocks through the
// production client code, attach to one server after another, and write down what they saw.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/task_group.h"
#include "sim/domain.h"
#include "sim/history.h"
#include "sim/verdict.h"
#include "volume/client.h"

namespace datom::sim {

class Clients {
 public:
  Clients(std::uint64_t seed, Domain& domain, History& history, Verdict& verdict);

  void start();
  // They end what they do and attach no more.
  void finish() { finishing_ = true; }
  std::size_t running() const { return tasks_.running(); }
  runtime::Task<void> close() { return tasks_.close(); }

  // How many use that server's process.
  std::size_t attached(std::size_t server) const { return attached_[server]; }
  // Reads every block through a server, when all is well.
  runtime::Task<void> read_everything(std::size_t server);

 private:
  struct Attachment;

  runtime::Task<void> client();
  runtime::Task<void> attach(std::size_t server);
  runtime::Task<void> open(Attachment& attachment);
  runtime::Task<void> until_opened(const Attachment& attachment);
  runtime::Task<void> leave(std::unique_ptr<Attachment> attachment);
  runtime::Task<void> use(Attachment& attachment);
  runtime::Task<void> write(Attachment& through, std::uint64_t first, std::uint64_t count);
  runtime::Task<void> read(Attachment& through, std::uint64_t first, std::uint64_t count);
  bool alive(const Attachment& attachment) const;
  Moment now() const { return domain_.loop.now().time_since_epoch(); }

  Domain& domain_;
  History& history_;
  Verdict& verdict_;
  runtime::SeededRandom random_;
  std::array<std::size_t, kServers> attached_{};
  Value last_value_ = 0;
  bool finishing_ = false;
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim
