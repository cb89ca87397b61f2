// The load: NBD clients as a volume server has them, that read and write a few blocks through the
// production client code, attach to one server after another, and write down what they saw.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/task_group.h"
#include "sim/domain.h"
#include "sim/history.h"
#include "sim/verdict.h"
#include "volume/client.h"

namespace datom::sim {

// The number that a block of a client's bears; nullopt where it is of several writes.
std::optional<Value> value_of(const std::byte* block);

class Clients {
 public:
  // `exclusive`: only one of them may write at a time.
  Clients(std::uint64_t seed, bool exclusive, Domain& domain, History& history, Verdict& verdict);

  void start();
  // They end what they do and attach no more.
  void finish() { finishing_ = true; }
  std::size_t running() const { return tasks_.running(); }
  runtime::Task<void> close() { return tasks_.close(); }

  // How many use that server's process.
  std::size_t attached(std::size_t server) const { return attached_[server]; }
  // Reads every block through a server, when all is well.
  runtime::Task<void> read_everything(std::size_t server);
  // What that showed.
  const std::map<std::uint64_t, Value>& last_values() const { return last_values_; }
  // Access exclusive: who opened a session closed all others. What was under way in those and has
  // an unknown outcome took effect before the first write of a later session was answered, or never
  // will. When all is over.
  void bound_fenced_writes();

 private:
  struct Attachment;
  // What is known of the session of one attachment, which its first write opens.
  struct Session {
    std::optional<Moment> opened;  // a write of it was answered
    bool renewed = false;          // it may have had several
    // Of its writes, when each was asked for and answered.
    std::vector<std::pair<Moment, Moment>> answered;
    std::vector<History::Handle> unknown;
  };

  runtime::Task<void> client();
  runtime::Task<void> attach(std::size_t server);
  runtime::Task<void> open(Attachment& attachment);
  runtime::Task<void> until_opened(const Attachment& attachment);
  runtime::Task<void> leave(std::unique_ptr<Attachment> attachment);
  runtime::Task<void> use(Attachment& attachment);
  std::uint64_t block();
  runtime::Task<void> write(Attachment& through, std::uint64_t first, std::uint64_t count);
  runtime::Task<void> read(Attachment& through, std::uint64_t first, std::uint64_t count);
  // False if nothing was read: the client gave up, or its server went.
  runtime::Task<bool> try_read(Attachment& through, std::uint64_t first, std::uint64_t count);
  void bound_failed_writes(Attachment& attachment, Moment begun);
  bool alive(const Attachment& attachment) const;
  Moment now() const { return domain_.loop.now().time_since_epoch(); }

  const bool exclusive_;
  Domain& domain_;
  History& history_;
  Verdict& verdict_;
  runtime::SeededRandom random_;
  std::vector<std::size_t> attached_;
  Value last_value_ = 0;
  std::map<std::uint64_t, Value> last_values_;
  std::deque<Session> sessions_;
  bool finishing_ = false;
  runtime::TaskGroup tasks_;
};

}  // namespace datom::sim
